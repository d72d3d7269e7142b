//! The Order domain: the versions, and the story that they must agree on.

mod cqrs_es;
mod enums;
mod event_store_adapter;
mod eventcore;
mod handlers;
mod traits;
mod vocabulary;

use self::vocabulary::{Line, OrderError, Status};

/// A step of the story.
#[derive(Clone, Debug)]
enum Step {
    Place(Vec<Line>),
    AddLine(Line),
    RemoveLine(&'static str),
    Pay(u64),
    Ship,
    Deliver,
    Cancel,
    Return,
}

/// The outcome of a step: the status, the total, and the paid amount after it, or the rejection.
type Told = Result<(Status, u64, u64), OrderError>;

/// Tells the story on one version.
macro_rules! tell {
    ($version:ident, $order:expr, $steps:expr) => {{
        let mut told: Vec<Told> = Vec::new();
        for step in $steps.clone() {
            told.push($version::take(&$order, step).await);
        }
        told
    }};
}

/// Runs the story on all versions.
///
/// # Panics
///
/// Panics if an outcome differs.
pub async fn check() {
    let line = |quantity, article: &str| Line { article: article.to_owned(), quantity, cents: 100 };
    let cases = [
        vec![
            Step::Pay(100),
            Step::Place(vec![]),
            Step::Place(vec![line(0, "cup")]),
            Step::Place(vec![line(2, "cup")]),
            Step::Place(vec![line(2, "cup")]),
            Step::RemoveLine("cup"),
            Step::RemoveLine("pot"),
            Step::AddLine(line(0, "pot")),
            Step::AddLine(line(1, "pot")),
            Step::RemoveLine("cup"),
            Step::Pay(300),
            Step::Pay(100),
            Step::Deliver,
            Step::Ship,
            Step::Cancel,
            Step::Deliver,
            Step::Deliver,
            Step::Return,
            Step::Return,
        ],
        vec![
            Step::Cancel,
            Step::Place(vec![line(1, "cup")]),
            Step::Pay(100),
            Step::Cancel,
            Step::Cancel,
            Step::Ship,
        ],
    ];
    for steps in cases {
        let expected = tell!(handlers, handlers::new(), steps);
        assert!(expected.iter().any(Result::is_ok) && expected.iter().any(Result::is_err));
        assert_eq!(tell!(traits, traits::new(), steps), expected, "traits");
        assert_eq!(tell!(enums, enums::new(), steps), expected, "enums");
        assert_eq!(tell!(cqrs_es, cqrs_es::new(), steps), expected, "cqrs-es");
        assert_eq!(tell!(event_store_adapter, event_store_adapter::new(), steps), expected, "adapter");
        assert_eq!(tell!(eventcore, eventcore::new(), steps), expected, "eventcore");
    }
}
