//! The Bank example: accounts, transfers between them, and an HTTP API.
//!
//! Start reading in [`domain`]; [`service`] is what the API asks for; [`api`] is the way there over HTTP.

pub mod api;
pub mod domain;
pub mod service;

use std::io;

use tokio::net::TcpListener;

pub use service::Bank;

/// Serves the API until `shutdown` is over; what was asked for until then is still answered.
pub async fn serve(
    listener: TcpListener,
    bank: Bank,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    axum::serve(listener, api::router(bank.clone())).with_graceful_shutdown(shutdown).await?;
    // Snapshots are written beside the commands; those that were started are not to be cut off.
    bank.accounts.flush().await;
    Ok(())
}
