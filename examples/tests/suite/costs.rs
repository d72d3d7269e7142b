//! Tests of the table of costs: its promises, and its copy in the book.

use std::process::Command;

#[test]
fn the_book_quotes_the_measurement() {
    let output = Command::new(env!("CARGO_BIN_EXE_costs")).output().expect("the table is printed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let table = String::from_utf8(output.stdout).expect("text");
    let book = include_str!("../../../docs/src/operations.md");
    assert!(book.contains(table.trim()), "the book's table of costs is not this one:\n{table}");
}

#[test]
fn the_promises_are_kept() {
    let book = include_str!("../../../docs/src/operations.md");
    let mut commands = 0;
    for row in book.lines().filter(|row| row.starts_with("| command ")) {
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        let number = |cell: usize| cells[cell].parse::<f64>().expect("a number");
        let (events, requests, write_units) = (number(2), number(3), number(5));
        let needs_no_load = cells[1].contains("cached") || cells[1].contains("creates");
        // A claim or an idempotency key requires a transaction: one request, at twice the units per item.
        let items = if cells[1].contains("claim") || cells[1].contains("key") { 4.0 } else { 1.0 };
        assert!(requests <= if needs_no_load { 1.0 } else { 2.0 }, "{row}");
        assert!(write_units <= items * if events < 2.0 { 1.0 } else { 2.0 }, "{row}");
        commands += 1;
    }
    assert_eq!(commands, 13);
}
