//! User code that misbehaves.

use std::future::pending;
use std::panic::resume_unwind;
use std::sync::{Arc, Mutex};

use fastrand::Rng;

/// Lets user code panic and hang, now and then.
#[derive(Clone, Debug, Default)]
pub struct Misbehavior(Option<Arc<Mutex<State>>>);

#[derive(Debug)]
struct State {
    random: Rng,
    rate: f64,
    interruptions: u64,
}

impl Misbehavior {
    /// Strikes in this part of the places, from 0 to 1, where it may.
    #[must_use]
    pub fn new(rate: f64, random: Rng) -> Self {
        Self(Some(Arc::new(Mutex::new(State { random, rate, interruptions: 0 }))))
    }

    /// From here on, user code behaves.
    pub fn end(&self) {
        if let Some(state) = &self.0 {
            state.lock().expect("is not poisoned").rate = 0.0;
        }
    }

    /// How often it struck.
    #[must_use]
    pub fn interruptions(&self) -> u64 {
        self.0.as_ref().map_or(0, |state| state.lock().expect("is not poisoned").interruptions)
    }

    /// A place where user code may panic, or never return.
    pub async fn may_strike(&self) {
        let Some(state) = &self.0 else { return };
        let panics = {
            let mut state = state.lock().expect("is not poisoned");
            if state.random.f64() >= state.rate {
                return;
            }
            state.interruptions += 1;
            state.random.bool()
        };
        if panics {
            // Without the message that `panic!` prints.
            resume_unwind(Box::new("on purpose"));
        }
        pending::<()>().await;
    }
}
