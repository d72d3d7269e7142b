//! A customer register whose events contain personal data.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use es_core::Schema;
use es_core::personal::Personal;
use es_core::prelude::*;
use es_core::projection::Transient;
use es_core::serde::{Deserialize, Serialize};

/// The value of all personal fields of `id`, for which the tests search.
pub(crate) fn secret(id: &str) -> String {
    format!("Planted-Secret-of-{id}")
}

/// The first version, from before names were personal data.
#[event]
pub(crate) struct RegisteredV1 {
    pub(crate) customer: String,
    pub(crate) name: String,
}

#[event(version = 2, previous = RegisteredV1)]
pub(crate) struct Registered {
    pub(crate) customer: String,
    #[personal(subject = customer)]
    pub(crate) name: Personal<String>,
    #[personal(subject = customer)]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) phones: Vec<Personal<String>>,
}

impl From<RegisteredV1> for Registered {
    fn from(old: RegisteredV1) -> Self {
        Self { customer: old.customer, name: old.name.into(), phones: Vec::new() }
    }
}

#[event]
pub(crate) enum Contact {
    Moved {
        customer: String,
        #[personal(subject = customer)]
        address: Option<Personal<Address>>,
    },
    #[event(name = "MailSent")]
    Mailed,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(crate = "es_core::serde")]
pub(crate) struct Address {
    pub(crate) street: String,
    pub(crate) city: String,
}

#[derive(Aggregate, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(crate = "es_core::serde")]
#[aggregate(name = "customer", id = String, events(Registered, Contact), snapshot(every = 2))]
pub(crate) struct Customer {
    pub(crate) name: Option<Personal<String>>,
    pub(crate) address: Option<Personal<Address>>,
    pub(crate) mails: u32,
}

pub(crate) struct Register {
    pub(crate) name: String,
}

pub(crate) struct Move {
    pub(crate) street: String,
}

pub(crate) struct SendMail;

/// Registers the email address of a customer, which no other customer may have.
pub(crate) struct Claim {
    pub(crate) email: String,
}

/// Records a copy of the name from the state.
pub(crate) struct Confirm;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[serde(crate = "es_core::serde")]
#[error("the customer is known already")]
pub(crate) struct Known {
    pub(crate) name: Personal<String>,
}

#[handlers]
impl Customer {
    #[apply]
    fn registered(&mut self, event: &Registered) {
        self.name = Some(event.name.clone());
    }

    #[apply]
    fn contact(&mut self, event: &Contact) {
        match event {
            Contact::Moved { address, .. } => self.address = address.clone(),
            Contact::Mailed => self.mails += 1,
        }
    }

    #[handle]
    fn register(&self, command: &Register, ctx: &Context<Self>) -> Result<Registered, Known> {
        if let Some(name) = &self.name {
            return Err(Known { name: name.clone() });
        }
        let name = Personal::from(command.name.clone());
        Ok(Registered { customer: ctx.id().clone(), phones: vec![name.clone()], name })
    }

    #[handle]
    fn relocate(&self, command: &Move, ctx: &Context<Self>) -> Contact {
        let address = Address { street: command.street.clone(), city: "Berlin".to_owned() };
        Contact::Moved { customer: ctx.id().clone(), address: Some(address.into()) }
    }

    #[handle]
    fn send_mail(&self, _: &SendMail) -> Contact {
        Contact::Mailed
    }

    #[handle]
    fn claim(&self, command: &Claim) -> Events<Self> {
        Events::from(Contact::Mailed).claim_personal("email", command.email.clone())
    }

    #[handle]
    fn confirm(&self, _: &Confirm, ctx: &Context<Self>) -> Option<Registered> {
        let name = self.name.clone()?;
        Some(Registered { customer: ctx.id().clone(), name, phones: Vec::new() })
    }
}

#[derive(Clone, Debug, PartialEq, Row, Schema, Serialize, Deserialize)]
#[serde(crate = "es_core::serde")]
#[row(name = "customers", key = customer, index(all(kind, customer)))]
pub(crate) struct Entry {
    pub(crate) customer: String,
    pub(crate) kind: String,
    #[personal(subject = customer)]
    pub(crate) name: Personal<String>,
    pub(crate) mails: u32,
}

#[derive(Clone, Projection)]
#[projection(name = "directory", events(Customer(Registered, Contact)))]
pub(crate) struct Directory {
    #[read_model]
    pub(crate) entries: ReadModel<Entry>,
}

#[handlers]
impl Directory {
    #[project]
    async fn registered(&mut self, event: &Registered) -> Result<(), BoxError> {
        let entry = Entry {
            customer: event.customer.clone(),
            kind: "customer".to_owned(),
            name: event.name.clone(),
            mails: 0,
        };
        Ok(self.entries.put(entry)?)
    }

    #[project]
    async fn contact(&mut self, event: &Contact, ctx: &EventContext) -> Result<(), BoxError> {
        if let Contact::Mailed = event
            && let Some(mut entry) = self.entries.get(ctx.stream().id()).await?
        {
            entry.mails += 1;
            self.entries.put(entry)?;
        }
        Ok(())
    }
}

/// A reminder with the customer's name, which is due later.
#[event]
pub(crate) struct Reminder {
    pub(crate) customer: String,
    #[personal(subject = customer)]
    pub(crate) name: Personal<String>,
}

/// The state of the process: the greetings that it has sent.
#[event]
pub(crate) struct Greeted {
    pub(crate) customer: String,
    #[personal(subject = customer)]
    pub(crate) name: Personal<String>,
}

#[derive(Aggregate, Clone, Debug, Default)]
#[aggregate(name = "greeting", id = String, events(Greeted))]
pub(crate) struct Greeting {
    pub(crate) names: Vec<Personal<String>>,
}

#[handlers]
impl Greeting {
    #[apply]
    fn greeted(&mut self, event: &Greeted) {
        self.names.push(event.name.clone());
    }
}

/// The delay of a [`Reminder`].
pub(crate) const DELAY: Duration = Duration::from_secs(2);

/// Asks the customer's own aggregate to register again, which it rejects with its name, sets a reminder, and records
/// the name. The reaction fails until `lets_pass`.
#[derive(Clone, Process)]
#[process(name = "greet", state = Greeting, events(Customer(Registered)), timeouts(Reminder))]
pub(crate) struct Greet {
    pub(crate) customers: Repository<Customer>,
    pub(crate) lets_pass: Arc<AtomicBool>,
}

#[handlers]
impl Greet {
    #[react]
    async fn registered(
        &self,
        event: &Registered,
        reaction: &mut Reaction<'_, Greeting>,
    ) -> Result<Greeted, BoxError> {
        let name = secret(&event.customer);
        let Err(known) = reaction.ask(&self.customers, &event.customer, Register { name }).await? else {
            return Err("the customer is registered".into());
        };
        if !self.lets_pass.load(Ordering::SeqCst) {
            return Err(Transient::new("the greeting is not ready").into());
        }
        let (customer, name) = (event.customer.clone(), known.name);
        reaction.schedule(DELAY, Reminder { customer: customer.clone(), name: name.clone() })?;
        Ok(Greeted { customer, name })
    }

    #[react]
    async fn reminder(&self, event: &Reminder, _: &mut Reaction<'_, Greeting>) -> Result<Greeted, BoxError> {
        Ok(Greeted { customer: event.customer.clone(), name: event.name.clone() })
    }
}
