//! The output of the story.

use std::error::Error;
use std::fmt::Debug;
use std::io::{IsTerminal, Write};

use es_core::repository::Recorded;
use es_core::{Cost, Event, ExecuteError, Outcome};

use crate::domain::{Order, OrderError, OrderEvent};

/// Prints the title.
pub fn title(text: &str) {
    println!("{text}\n{}", "=".repeat(text.chars().count()));
}

/// Prints the heading of a chapter.
pub fn chapter(text: &str) {
    println!("\n{text}\n{}", "-".repeat(text.chars().count()));
}

/// Prints a command that was executed.
pub fn done(command: &impl Debug, outcome: &Outcome<Order>) {
    let names: Vec<_> = outcome.events.iter().map(|event| event.kind().name()).collect();
    let led_to = if names.is_empty() { "nothing to do".to_owned() } else { names.join(", ") };
    println!("  {}", name(command));
    println!("      -> {led_to:<24} version {:<3} {}", outcome.version.get(), units(outcome.cost));
    if outcome.attempts > 1 {
        println!("         (another client was faster: decided {} times)", outcome.attempts);
    }
}

/// Prints a command that was rejected.
pub fn rejected(command: &impl Debug, error: &ExecuteError<OrderError>) {
    println!("  {}", name(command));
    match error.rejection() {
        Some(reason) => println!("      -> rejected: {reason}"),
        None => println!("      -> failed: {error}"),
    }
}

/// Prints the state of an order.
pub fn state(label: &str, order: &Order, cost: Cost) {
    println!("  {label}: {}, {} lines, {} in all", order.status, order.lines.len(), order.total());
    println!("         {}", units(cost));
    for line in &order.lines {
        println!("         {:>3} x {:<20} {:>12}", line.quantity, line.article, line.price.to_string());
    }
}

/// Prints an event of a history.
pub fn event(recorded: &Recorded<OrderEvent>) {
    println!(
        "  {:>3}  {}  {:<16} {:<8} {}",
        recorded.version.get(),
        recorded.time.format("%Y-%m-%d %H:%M:%S%.3f"),
        recorded.event.kind().name(),
        recorded.metadata.actor().unwrap_or("-"),
        recorded.id,
    );
}

/// Prints a line.
pub fn line(text: &str) {
    println!("  {text}");
}

/// Prints a progress bar. On a terminal, it is redrawn in place; otherwise, only the last one is printed.
pub fn progress(done: u64, all: u64) {
    let width = 30;
    let filled = (done * width).checked_div(all).unwrap_or(width);
    let bar: String = (0..width).map(|place| if place < filled { '#' } else { '.' }).collect();
    let line = format!("  [{bar}] {done} of {all} events");
    if std::io::stdout().is_terminal() {
        print!("\r{line}");
        let _ = std::io::stdout().flush();
        if done == all {
            println!();
        }
    } else if done == all {
        println!("{line}");
    }
}

/// Prints the error that ended the story.
pub fn failure(error: &dyn Error) {
    eprintln!("error: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        eprintln!("  because: {error}");
        cause = error.source();
    }
}

fn units(cost: Cost) -> String {
    format!("{:<11} {:>4} RCU {:>3} WCU", requests(cost.requests), cost.read_units, cost.write_units)
}

fn requests(count: u32) -> String {
    if count == 1 { "1 request".to_owned() } else { format!("{count} requests") }
}

/// Returns the `Debug` form of a command, shortened to one line.
fn name(command: &impl Debug) -> String {
    let text = format!("{command:?}");
    match text.char_indices().nth(96) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
