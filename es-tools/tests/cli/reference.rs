//! Help, completions, and manual pages.

use crate::support::Place;

#[test]
fn every_command_has_help() {
    let place = Place::new("help");
    let help = place.es(&["--help"]).succeeds();
    for part in
        ["table", "stream", "feed", "projection", "process", "claim", "key", "import", "--dry-run", "--yes"]
    {
        assert!(help.contains(part), "{part} is missing in:\n{help}");
    }
    assert!(help.contains("3 a check found a problem"), "{help}");
    // They need the types of an application.
    assert!(!help.contains("rebuild") && !help.contains("state"), "{help}");
    let unknown = place.es(&["state", "order", "1"]).fails(2);
    assert!(unknown.contains("unrecognized subcommand"), "{unknown}");
}

#[test]
fn completions_and_manual_pages_name_the_commands() {
    let place = Place::new("reference");
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = place.es(&["completions", shell]).succeeds();
        assert!(script.contains("reconcile") && script.contains("dry-run"), "{shell}: {script}");
    }
    let page = place.es(&["man"]).succeeds();
    assert!(page.starts_with(".ie") || page.contains(".TH es"), "{page}");
    std::fs::create_dir(place.path("man")).expect("creates");
    place.es(&["man", "--directory", "man"]).succeeds();
    let page = std::fs::read_to_string(place.path("man/es-feed-audit.1")).expect("is there");
    assert!(page.contains("audit"), "{page}");
}
