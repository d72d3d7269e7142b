//! The OpenTelemetry example.

use std::process::Command;

/// Returns the blocks of spans with this name.
fn spans<'a>(output: &'a str, name: &str) -> Vec<&'a str> {
    let line = format!("Name         : {name}\n");
    output.split("Span #").filter(|span| span.contains(&line)).collect()
}

/// Returns the value of an attribute or of a property of a span.
fn value<'a>(span: &'a str, name: &str) -> &'a str {
    let line = span.lines().find(|line| line.trim_start_matches(['\t', ' ', '-', '>']).starts_with(name));
    line.and_then(|line| line.split_once(": ")).unwrap_or_else(|| panic!("{name} is missing in {span}")).1
}

#[test]
fn requests_are_children_of_their_command() {
    let output = Command::new(env!("CARGO_BIN_EXE_traces")).output().expect("the example runs");
    let output = String::from_utf8_lossy(&output.stdout);
    let commands = spans(&output, "execute");
    assert_eq!(commands.len(), 2, "{output}");
    for command in commands {
        assert!(
            value(command, "command").contains("Deposit") && value(command, "outcome").contains("accepted")
        );
        let id = value(command, "SpanId");
        for operation in ["Query", "PutItem"] {
            let is_child = |span: &&str| value(span, "ParentSpanId") == id;
            let request = spans(&output, operation).into_iter().find(is_child);
            let request = request.unwrap_or_else(|| panic!("{operation} of {id} is missing in {output}"));
            assert_eq!(value(request, "Kind"), "Client");
            assert!(value(request, "db.system.name").contains("aws.dynamodb"));
        }
    }
    assert!(!spans(&output, "index").is_empty() && !spans(&output, "project").is_empty(), "{output}");
}
