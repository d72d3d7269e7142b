//! The Order domain on four libraries, and two domains in both forms of this framework, for `scripts/lines`.
//!
//! All versions use the vocabulary of their domain and keep the same rules. This program runs one story on each of
//! them, and fails if an outcome differs. `scripts/lines` counts their lines.

mod bank;
mod order;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    order::check().await;
    bank::check().await;
    println!("all versions behave the same");
}
