//! User code that misbehaves.

use std::future::pending;
use std::panic::resume_unwind;
use std::sync::{Arc, Mutex};

use fastrand::Rng;

/// Makes user code panic or hang now and then.
#[derive(Clone, Debug, Default)]
pub struct Misbehavior(Option<Arc<Mutex<State>>>);

#[derive(Debug)]
struct State {
    random: Rng,
    rate: f64,
    interruptions: u64,
}

impl Misbehavior {
    /// Misbehaves in a fraction `rate` of the places, from 0 to 1.
    #[must_use]
    pub fn new(rate: f64, random: Rng) -> Self {
        Self(Some(Arc::new(Mutex::new(State { random, rate, interruptions: 0 }))))
    }

    /// Ends the misbehavior.
    pub fn end(&self) {
        if let Some(state) = &self.0 {
            state.lock().expect("is not poisoned").rate = 0.0;
        }
    }

    /// Returns how often user code panicked or hung.
    #[must_use]
    pub fn interruptions(&self) -> u64 {
        self.0.as_ref().map_or(0, |state| state.lock().expect("is not poisoned").interruptions)
    }

    /// A place at which user code may panic or never return.
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
            // Does not print a message, unlike `panic!`.
            resume_unwind(Box::new("on purpose"));
        }
        pending::<()>().await;
    }
}
