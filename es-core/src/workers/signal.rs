//! Signals that request termination.

use std::io;

/// The signals that request termination: SIGTERM, which service managers and container platforms send, and SIGINT
/// (Ctrl-C).
pub(super) struct Signals {
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
    #[cfg(windows)]
    interrupt: tokio::signal::windows::CtrlC,
}

impl Signals {
    /// Installs the handlers. Afterwards, the signals no longer terminate the process.
    #[cfg(unix)]
    pub(super) fn new() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    #[cfg(windows)]
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self { interrupt: tokio::signal::windows::ctrl_c()? })
    }

    /// Waits for the next signal.
    #[cfg(unix)]
    pub(super) async fn recv(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    #[cfg(windows)]
    pub(super) async fn recv(&mut self) {
        self.interrupt.recv().await;
    }
}

/// Returns a future that completes when the process receives SIGTERM or SIGINT (Ctrl-C). After this call, these signals
/// no longer terminate the process.
///
/// Use it for a server that must stop before the workers do:
///
/// ```no_run
/// # async fn serve(_: impl Future<Output = ()>) {}
/// # async fn example(workers: es_core::workers::Workers) -> Result<(), Box<dyn std::error::Error>> {
/// let stopped = es_core::workers::shutdown_signal()?;
/// let workers = workers.spawn();
/// serve(stopped).await; // accepts requests until the signal, and answers those in progress
/// workers.shutdown().await?;
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// [`io::Error`] if a handler cannot be installed.
///
/// # Panics
///
/// Panics outside a Tokio runtime.
pub fn shutdown_signal() -> io::Result<impl Future<Output = ()> + Send + 'static> {
    let mut signals = Signals::new()?;
    Ok(async move { signals.recv().await })
}
