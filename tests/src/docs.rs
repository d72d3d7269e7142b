//! Checks that the documents agree with the code, and with each other.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Checks that each compiler message quoted in the book occurs in a UI test.
#[test]
fn the_book_quotes_the_compiler() {
    let ui = Path::new(env!("CARGO_MANIFEST_DIR")).join("ui");
    let files = |folder| fs::read_dir(folder).expect("a folder").map(|file| file.expect("a file").path());
    let said: String = files(ui)
        .filter(|path| path.is_dir())
        .flat_map(files)
        .filter(|file| file.extension().is_some_and(|extension| extension == "stderr"))
        .map(|file| fs::read_to_string(file).expect("is text"))
        .collect();

    let book = include_str!("../../docs/src/diagnostics.md");
    let quotes: Vec<_> = book.lines().filter_map(|row| row.strip_prefix("| **here** | `` ")).collect();
    let mistakes: Vec<_> = book
        .split("| mistake | message |\n|---|---|\n")
        .skip(1)
        .flat_map(|rest| rest.lines().take_while(|row| row.starts_with('|')))
        .filter_map(|row| Some(row.split_once(" | `` ")?.1))
        .collect();
    assert!(quotes.len() > 10 && mistakes.len() > 5, "the tables are gone");
    for quote in quotes.into_iter().chain(mistakes) {
        let message = quote.split(" ``").next().expect("has an end");
        assert!(said.contains(message), "no UI test has this message:\n{message}");
    }
}

/// Checks that the README quotes the costs in the book. A test in `examples` compares those with a measurement.
#[test]
fn the_readme_quotes_the_costs_of_the_book() {
    let readme = include_str!("../../README.md");
    let book = include_str!("../../docs/src/operations.md");
    let rows = readme.lines().filter(|row| row.starts_with("| ") && row.matches(" | ").count() == 4);
    let rows: Vec<_> = rows.filter(|row| !row.starts_with("| what ")).collect();
    assert!(rows.len() > 3, "the table is gone");
    for row in rows {
        assert!(book.contains(row), "the book has no such row:\n{row}");
    }
}

/// Checks that the files and folders named in ARCHITECTURE.md exist.
#[test]
fn the_architecture_names_what_exists() {
    let page = include_str!("../../ARCHITECTURE.md");
    let paths: Vec<_> = page.split('`').skip(1).step_by(2).filter(|name| name.contains('/')).collect();
    assert!(paths.len() > 10, "the paths are gone");
    for path in paths {
        assert!(root().join(path).exists(), "there is no such file: {path}");
    }
}

/// Checks that the snippets of all chapters are compiled.
#[test]
fn the_snippets_of_the_book_are_compiled() {
    let compiled = [
        include_str!("lib.rs"),
        include_str!("../../es-postgres/src/lib.rs"),
        include_str!("../../es-tools/src/lib.rs"),
    ]
    .concat();
    let chapters = fs::read_dir(root().join("docs/src")).expect("a folder");
    let mut snippets = 0;
    for chapter in chapters.map(|file| file.expect("a file").path()).filter(|path| path.is_file()) {
        let text = fs::read_to_string(&chapter).expect("is text");
        if !text.contains("```rust") {
            continue;
        }
        snippets += 1;
        let name = chapter.file_name().and_then(|name| name.to_str()).expect("has a name");
        assert!(
            compiled.contains(&format!("include_str!(\"../../docs/src/{name}\")")),
            "the snippets of {name} are not compiled: add the chapter to `book` in tests/src/lib.rs"
        );
    }
    assert!(snippets > 10, "only {snippets} chapters with snippets were found");
}

/// Checks that every link to a file or a section within the repository has a target.
#[test]
fn links_lead_somewhere() {
    let folders = ["", "docs/src", "es-core", "es-dynamo", "es-macros", "es-postgres", "es-tools"];
    let files = folders.iter().flat_map(|folder| fs::read_dir(root().join(folder)).expect("a folder"));
    let paths = files.map(|file| file.expect("a file").path());
    let (mut links, mut broken) = (0, Vec::new());
    for path in paths.filter(|path| path.extension().is_some_and(|extension| extension == "md")) {
        let text = fs::read_to_string(&path).expect("is text");
        for target in prose(&text).flat_map(|line| line.split("](").skip(1)) {
            let target = target.split(')').next().expect("has a beginning");
            if target.starts_with("https://") {
                continue;
            }
            links += 1;
            let (file, section) = target.split_once('#').unwrap_or((target, ""));
            let file = match file {
                "" => path.clone(),
                file => path.parent().expect("a folder").join(file),
            };
            if !file.exists() || !section.is_empty() && !sections(&file).contains(section) {
                broken.push(format!("{}: {target}", path.display()));
            }
        }
    }
    assert!(links > 100, "only {links} links were found");
    assert!(broken.is_empty(), "links without a target:\n{}", broken.join("\n"));
}

/// Returns the lines of a document that are not in a block of code.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut is_code = false;
    text.lines().filter(move |line| {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        !is_code && !is_fence
    })
}

/// Returns the anchors of the headings of a document, as mdBook and GitHub make them.
fn sections(path: &Path) -> BTreeSet<String> {
    let text = fs::read_to_string(path).expect("is text");
    let mut sections = BTreeSet::new();
    for line in prose(&text) {
        if let Some(included) = line.strip_prefix("{{#include ").and_then(|rest| rest.strip_suffix("}}")) {
            sections.extend(self::sections(&path.parent().expect("a folder").join(included)));
        } else if line.starts_with('#') {
            let heading = line.trim_start_matches('#').trim().to_lowercase();
            let kept = heading.chars().filter(|letter| letter.is_alphanumeric() || " -_".contains(*letter));
            sections.insert(kept.map(|letter| if letter == ' ' { '-' } else { letter }).collect());
        }
    }
    sections
}
