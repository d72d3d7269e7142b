//! Telling the story: everything that is printed.

use std::error::Error;
use std::fmt::Debug;
use std::io::{IsTerminal, Write};

use es_core::repository::Recorded;
use es_core::{Cost, Event, ExecuteError, Outcome};

use crate::domain::{Order, OrderError, OrderEvent};

/// The headline.
pub fn title(text: &str) {
    println!("{text}\n{}", "=".repeat(text.chars().count()));
}

/// The next part of the story.
pub fn chapter(text: &str) {
    println!("\n{text}\n{}", "-".repeat(text.chars().count()));
}

/// A command that was carried out.
pub fn done(command: &impl Debug, outcome: &Outcome<Order>) {
    let names: Vec<_> = outcome.events.iter().map(|event| event.kind().name()).collect();
    let led_to = if names.is_empty() { "nothing to do".to_owned() } else { names.join(", ") };
    println!("  {}", name(command));
    println!("      -> {led_to:<24} version {:<3} {}", outcome.version.get(), units(outcome.cost));
    if outcome.attempts > 1 {
        println!("         (another client came first: decided {} times)", outcome.attempts);
    }
}

/// A command that was not.
pub fn rejected(command: &impl Debug, error: &ExecuteError<OrderError>) {
    println!("  {}", name(command));
    match error.rejection() {
        Some(reason) => println!("      -> rejected: {reason}"),
        None => println!("      -> failed: {error}"),
    }
}

/// The state of an order.
pub fn state(label: &str, order: &Order, cost: Cost) {
    println!("  {label}: {}, {} lines, {} in all", order.status, order.lines.len(), order.total());
    println!("         {}", units(cost));
    for line in &order.lines {
        println!("         {:>3} x {:<20} {:>12}", line.quantity, line.article, line.price.to_string());
    }
}

/// One event of a history.
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

/// Something else that is told.
pub fn line(text: &str) {
    println!("  {text}");
}

/// How much is done, as a bar: one line on a terminal, drawn again and again; elsewhere the last one alone.
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

/// Why the story ended early.
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

/// A command as the code has it, on one line of the screen.
fn name(command: &impl Debug) -> String {
    let text = format!("{command:?}");
    match text.char_indices().nth(96) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
