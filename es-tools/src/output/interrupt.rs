//! What an interrupted command says.

use crate::failure::Result;

/// The exit code of a process that SIGINT has ended, as shells report it.
const INTERRUPTED: i32 = 130;

/// From now on, if the process is interrupted by Ctrl-C or SIGTERM, prints what is left and what to do, and exits.
///
/// Call it after the questions to the operator, because the signals do not end a read of the terminal.
pub(crate) fn on_interrupt(left: impl Into<String>) -> Result {
    let (interrupted, left) = (es_core::workers::shutdown_signal()?, left.into());
    tokio::spawn(async move {
        interrupted.await;
        // After the progress bar.
        eprintln!("\ninterrupted: {left}");
        std::process::exit(INTERRUPTED);
    });
    Ok(())
}
