//! The binary `es`: the commands that need no types of an application.

use std::process::ExitCode;

use es_tools::Application;

#[tokio::main]
async fn main() -> ExitCode {
    es_tools::cli(Application::new("es")).await
}
