//! The Bank domain in both forms, and the story that they must agree on.

mod handlers;
mod traits;
mod vocabulary;

use self::vocabulary::{AccountError, Status};

/// A step of the story.
#[derive(Clone, Debug)]
enum Step {
    Open(&'static str),
    Deposit(u64),
    Withdraw(u64),
    Send(&'static str, u64),
    Receive(u64),
    Close,
}

/// The outcome of a step: the status and the balance after it, or the rejection.
type Told = Result<(Status, u64), AccountError>;

/// Runs the story on both forms.
///
/// # Panics
///
/// Panics if an outcome differs.
pub async fn check() {
    let steps = [
        Step::Deposit(1),
        Step::Open(" "),
        Step::Open("Ann"),
        Step::Open("Ann"),
        Step::Deposit(0),
        Step::Deposit(500),
        Step::Deposit(u64::MAX),
        Step::Withdraw(700),
        Step::Withdraw(100),
        Step::Send("1", 100),
        Step::Send("2", 300),
        Step::Receive(50),
        Step::Close,
        Step::Withdraw(150),
        Step::Close,
        Step::Close,
        Step::Deposit(1),
    ];
    let (first, second) = (handlers::new(), traits::new());
    let mut accepted = 0;
    for step in steps {
        let told = handlers::take(&first, step.clone()).await;
        accepted += usize::from(told.is_ok());
        assert_eq!(traits::take(&second, step.clone()).await, told, "{step:?}");
    }
    assert_eq!(accepted, 8);
}
