//! The commands with the framework.

use std::convert::Infallible;

use es_core::{Aggregate, Apply, Context, Events, Handle, Repository, event};
use es_dynamo::DynamoStore;

use crate::canned::{Canned, TEXT_BYTES};

#[event]
pub struct Noted {
    pub text: String,
}

#[derive(Aggregate, Clone, Default)]
#[aggregate(name = "notebook", id = String, events(Noted))]
pub struct Notebook {
    pub notes: u64,
    pub last: String,
}

impl Apply<Noted> for Notebook {
    fn apply(&mut self, event: &Noted) {
        self.notes += 1;
        self.last.clone_from(&event.text);
    }
}

struct Note {
    times: usize,
}

impl Handle<Note> for Notebook {
    type Error = Infallible;

    fn handle(&self, command: &Note, _: &Context<Self>) -> Result<Events<Self>, Infallible> {
        Ok((0..command.times).map(|_| Noted { text: "x".repeat(TEXT_BYTES) }).collect())
    }
}

pub async fn commands(canned: &Canned, count: u32, events: usize) {
    let store = DynamoStore::builder().client(canned.client()).build().expect("a valid table name");
    let notebooks: Repository<Notebook> = Repository::new(store);
    let id = "a".to_owned();
    for _ in 0..count {
        let done = notebooks.execute(&id, Note { times: events }).await.expect("accepted");
        std::hint::black_box(done.state.notes);
    }
}
