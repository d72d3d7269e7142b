use es_core::personal::Personal;

fn greet(name: &Personal<String>) -> String {
    format!("Hello, {name}!")
}

fn main() {}
