//! `explore`: serving the explorer.

use std::net::SocketAddr;

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use es_core::uuid::Uuid;
use serde_json::json;
use tokio::net::TcpListener;

use crate::application::Application;
use crate::explorer::Explorer;
use crate::failure::{Failure, Result};
use crate::session::Session;

/// The options of `explore`.
#[derive(Args, Debug)]
pub(super) struct Options {
    /// The address to listen on; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Show payloads, metadata, and states, which may be confidential
    #[arg(long)]
    payloads: bool,
    /// Allow actions on projections and processes
    #[arg(long)]
    actions: bool,
    /// The token that the pages require [default: a random one]
    #[arg(long, env = "ES_EXPLORER_TOKEN", hide_env_values = true, value_parser = NonEmptyStringValueParser::new())]
    token: Option<String>,
}

pub(super) async fn run(options: Options, application: Application, session: &Session) -> Result {
    let token = options.token.unwrap_or_else(|| Uuid::new_v4().simple().to_string());
    let mut explorer = Explorer::new(session.store.clone(), application).token(&token);
    if options.payloads {
        explorer = explorer.show_payloads();
    }
    if options.actions {
        explorer = explorer.allow_actions();
    }
    let address = options.listen;
    let listener = TcpListener::bind(address).await.map_err(|error| {
        Failure::of(format!("cannot listen on {address}: {error}; choose another address with --listen"))
    })?;
    let encoded: String = form_urlencoded::byte_serialize(token.as_bytes()).collect();
    let url = format!("http://{}/?token={encoded}", listener.local_addr()?);
    session.output.value(&json!({ "url": url }), || format!("Open {url}\nPress Ctrl-C to stop."))?;
    let stop = async { drop(tokio::signal::ctrl_c().await) };
    Ok(axum::serve(listener, explorer.into_router()).with_graceful_shutdown(stop).await?)
}
