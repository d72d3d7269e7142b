//! The explorer: pages that show streams, traces, the feed, and projections, for people who operate an application.
//!
//! `es explore` serves it. An application mounts it as an axum router, where it knows the application's types:
//!
//! ```no_run
//! use axum::Router;
//! use es_core::prelude::*;
//! use es_dynamo::DynamoStore;
//! use es_tools::{Application, Explorer};
//! # use serde::{Deserialize, Serialize};
//! # #[event]
//! # pub struct OrderPlaced;
//! # #[derive(Aggregate, Default, Serialize, Deserialize)]
//! # #[aggregate(name = "order", id = String, events(OrderPlaced))]
//! # pub struct Order;
//! # #[handlers]
//! # impl Order {
//! #     #[apply]
//! #     fn order_placed(&mut self, _: &OrderPlaced) {}
//! # }
//!
//! # async fn example(store: DynamoStore) -> Result<(), BoxError> {
//! let explorer = Explorer::new(store, Application::new("shop").aggregate::<Order>())
//!     .show_payloads()
//!     .token("a long random text, from a secret store");
//! let app: Router = Router::new().nest_service("/explorer", explorer.into_router());
//! # let _ = app;
//! # Ok(())
//! # }
//! ```
//!
//! # Security
//!
//! Everyone who can open the pages can see the names of all streams, events, and actors. Set a
//! [token](Explorer::token), or mount the router behind the middleware that protects your other pages. Payloads,
//! metadata, and states are hidden unless [`show_payloads`](Explorer::show_payloads) is called, and nothing can be
//! changed unless [`allow_actions`](Explorer::allow_actions) is. The pages have no scripts, no external resources, and
//! a strict Content-Security-Policy.

mod consumer;
mod diff;
mod feed;
mod guard;
mod indexers;
mod overview;
mod page;
mod search;
mod stream;
mod trace;

use std::sync::Arc;

use self::guard::Token;
use crate::application::Application;
use crate::store::Store;
use axum::extract::FromRef;
use axum::routing::{get, post};
use axum::{Router, middleware};
use es_core::read_model::Traces;

/// Pages that show streams, traces, the feed, and projections: see the [module](self).
#[derive(Debug)]
#[must_use = "it serves nothing until it is turned into a router"]
pub struct Explorer {
    shared: Shared,
}

/// What all pages need.
#[derive(Debug)]
struct Shared {
    store: Store,
    /// The store that the types of the application use.
    unsealed: Store,
    application: Application,
    traces: Traces,
    shows_payloads: bool,
    allows_actions: bool,
    token: Option<Token>,
}

/// A handle on it, which is the state of the router.
#[derive(Clone, Debug)]
struct Context(Arc<Shared>);

impl FromRef<Context> for Arc<Shared> {
    fn from_ref(context: &Context) -> Self {
        Arc::clone(&context.0)
    }
}

impl Explorer {
    /// Creates an explorer of `store` that knows the types of `application`.
    pub fn new(store: impl Into<Store>, application: Application) -> Self {
        let store = store.into();
        let traces = Traces::new(&store.feed());
        let unsealed = application.unsealed(&store);
        Self {
            shared: Shared {
                store,
                unsealed,
                application,
                traces,
                shows_payloads: false,
                allows_actions: false,
                token: None,
            },
        }
    }

    /// Shows payloads, metadata, and states (default: hidden), which may be confidential.
    pub fn show_payloads(mut self) -> Self {
        self.shared.shows_payloads = true;
        self
    }

    /// Allows actions on projections and processes: pause, resume, retry, park, skip, replay, and discard (default:
    /// none is allowed).
    pub fn allow_actions(mut self) -> Self {
        self.shared.allows_actions = true;
        self
    }

    /// Requires this token (default: none): as `Authorization: Bearer …`, or once as the query parameter `token`, which
    /// sets a cookie.
    pub fn token(mut self, token: &str) -> Self {
        self.shared.token = Some(Token::new(token));
        self
    }

    /// Returns the router, to be served, or nested in the router of an application under any path.
    ///
    /// Use [`nest_service`](Router::nest_service), which also serves the start page if its path ends with `/`.
    /// [`nest`](Router::nest) responds with 404 there.
    pub fn into_router(self) -> Router {
        let context = Context(Arc::new(self.shared));
        let pages = Router::new()
            .route("/", get(overview::show))
            .route("/search", get(search::find))
            .route("/streams/{stream}", get(stream::show))
            .route("/streams/{stream}/{version}", get(stream::show_version))
            .route("/keys/{key}", get(search::show_key))
            .route("/traces/{name}", get(trace::show))
            .route("/feed", get(feed::show))
            .route("/indexers", get(indexers::show))
            .route("/consumers/{name}", get(consumer::show))
            .route("/consumers/{name}/{action}", post(consumer::act))
            .fallback(page::not_found)
            .layer(middleware::from_fn_with_state(context.clone(), guard::authorize));
        // The style of the page that asks for the token is public.
        Router::new()
            .route("/style.css", get(page::style))
            .merge(pages)
            .layer(middleware::from_fn(page::render))
            .layer(middleware::from_fn(guard::secure))
            .with_state(context)
    }
}
