//! Personal data: events, states, rows, and everything else that is stored, before and after its subject is forgotten.

mod consumers;
mod domain;
mod forgetting;
