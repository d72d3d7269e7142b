//! The shop of the fault runs, and a process that its events control.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use es_core::clock::Clock;
use es_core::documents::{ChangeSet, DocumentKey, DocumentQuery, Documents, ExpectedDocument};
use es_core::feed::Feed;
use es_core::prelude::*;
use es_core::process::{Process, Reacting};
use es_core::projection::{ProjectorBuilder, ProjectorError};
use es_core::{EventStore, MemoryStore, Metadata, RetryPolicy};
use es_tests::chaos::processes::shop::{Fulfill, Order, Place, Receive, Reserve, Stock};
use es_tests::chaos::user_code::Misbehavior;
use es_tests::domain::{Account, Deposit, Deposited, Withdraw};
use tokio::sync::Semaphore;

pub(crate) const LEASE: Duration = Duration::from_millis(300);

/// Tokio's time, shared by all.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Time;

static START: LazyLock<std::time::Instant> = LazyLock::new(std::time::Instant::now);

/// The time between the epoch and [`START`]. A paused clock may have stopped before the start.
const BEFORE_START: Duration = Duration::from_secs(24 * 60 * 60);

#[async_trait]
impl Clock for Time {
    fn now(&self) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::milliseconds(self.monotonic().as_millis() as i64)
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }

    fn monotonic(&self) -> Duration {
        let now = tokio::time::Instant::now().into_std();
        BEFORE_START + now.saturating_duration_since(*START) - START.saturating_duration_since(now)
    }

    async fn timeout(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

/// Returns a process on tokio's time, which is paused in these tests.
pub(crate) fn projector<P: Process>(store: impl Feed, process: P) -> ProjectorBuilder<Reacting<P>> {
    let retry = RetryPolicy::default()
        .with_max_attempts(3)
        .with_base_delay(Duration::from_millis(1))
        .with_max_delay(Duration::from_millis(20));
    Projector::process_builder(store, process)
        .clock(Time)
        .poll(Duration::from_millis(10))
        .lease(LEASE)
        .retry(retry)
}

/// A worker in the background. Dropping it kills it.
pub(crate) struct Work(tokio::task::JoinHandle<Result<(), ProjectorError>>);

impl Work {
    pub(crate) fn on<P: Process>(projector: &Projector<Reacting<P>>) -> Self {
        let projector = projector.clone();
        Self(tokio::spawn(async move { projector.run().await }))
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        self.0.abort();
    }
}

pub(crate) fn shop(store: &(impl EventStore + Clone)) -> Fulfill {
    Fulfill {
        orders: Repository::new(store.clone()),
        stock: Repository::new(store.clone()),
        wallets: Repository::new(store.clone()),
        misbehavior: Misbehavior::default(),
    }
}

pub(crate) async fn place(store: &MemoryStore, order: &str, articles: &[&str]) {
    let articles = articles.iter().map(|article| (*article).to_owned()).collect();
    let place = Place { articles, wallet: "ann".to_owned() };
    let orders = Repository::<Order>::builder(store.clone()).clock(Time).build();
    orders.execute(&order.to_owned(), place).await.expect("places");
}

pub(crate) async fn receive(store: &MemoryStore, article: &str) {
    Repository::<Stock>::new(store.clone()).execute(&article.to_owned(), Receive).await.expect("receives");
}

pub(crate) async fn load<A: Aggregate<Id = String> + Clone>(store: &MemoryStore, id: &str) -> A {
    Repository::<A>::new(store.clone()).load(&id.to_owned()).await.expect("loads").state.clone()
}

/// The state of a [`Scripted`] process: its actions, in order.
#[event]
pub(crate) struct Did {
    pub(crate) what: String,
}

#[derive(Aggregate, Clone, Debug, Default)]
#[aggregate(name = "diary", id = String, events(Did))]
pub(crate) struct Diary {
    pub(crate) lines: Vec<String>,
}

impl Apply<Did> for Diary {
    fn apply(&mut self, event: &Did) {
        self.lines.push(event.what.clone());
    }
}

#[event]
pub(crate) struct Reminder {
    pub(crate) of: String,
}

/// What the note of a deposit tells it: `instance: word word …`. The words are carried out in order: `pay` deposits in
/// an account and `withdraw` takes it back, `ask` reserves a cup and `restock` receives one, `insist` asks until there
/// is an answer, `note` records what the instance has done so far, `remind` schedules a reminder, `wait` waits until
/// the test lets it continue, `slow` takes a second, `once` does nothing more if the instance remembers anything,
/// `fail` fails as often as the test has set. The words after `then` are carried out by the reminders.
#[derive(Clone, Process)]
#[process(name = "script", state = Diary, events(Account(Deposited)), timeouts(Reminder))]
pub(crate) struct Scripted {
    accounts: Repository<Account>,
    stock: Repository<Stock>,
    shared: Arc<Shared>,
    /// Replacements for some scripts.
    instead: BTreeMap<String, String>,
}

struct Shared {
    gate: Semaphore,
    failures: Mutex<BTreeMap<String, u32>>,
    /// The reactions that began.
    begun: Mutex<Vec<String>>,
}

impl Scripted {
    pub(crate) fn new(store: impl Feed + Clone) -> Self {
        let shared = Shared { gate: Semaphore::new(0), failures: Mutex::default(), begun: Mutex::default() };
        Self {
            accounts: Repository::new(store.clone()),
            stock: Repository::new(store),
            shared: Arc::new(shared),
            instead: BTreeMap::new(),
        }
    }

    /// Creates the process. The repositories of accounts and stock in `store` do not retry.
    pub(crate) fn with_commands_in(mut self, store: impl Feed + Clone) -> Self {
        let retry = RetryPolicy::default().with_max_attempts(1);
        self.accounts = Repository::builder(store.clone()).retry(retry).build();
        self.stock = Repository::builder(store).retry(retry).build();
        self
    }

    /// Executes `other` instead of `script`, like another version of the code.
    pub(crate) fn with(mut self, script: &str, other: &str) -> Self {
        self.instead.insert(script.to_owned(), other.to_owned());
        self
    }

    /// Lets `count` waiting reactions continue.
    pub(crate) fn let_go(&self, count: usize) {
        self.shared.gate.add_permits(count);
    }

    /// Makes the script fail `times` times.
    pub(crate) fn fail(&self, script: &str, times: u32) {
        self.shared.failures.lock().expect("no panic").insert(script.to_owned(), times);
    }

    /// Returns the reactions that began, one for each attempt.
    pub(crate) fn begun(&self) -> Vec<String> {
        self.shared.begun.lock().expect("no panic").clone()
    }

    async fn carry_out(
        &self,
        script: &str,
        reaction: &mut Reaction<'_, Diary>,
    ) -> Result<Vec<Did>, BoxError> {
        let script = self.instead.get(script).map_or(script, String::as_str);
        self.shared.begun.lock().expect("no panic").push(script.to_owned());
        let mut events = Vec::new();
        for word in script.split(' ') {
            match word {
                "pay" => {
                    let (payee, notes) = ("payee".to_owned(), vec![format!("for: {script}")]);
                    reaction.execute(&self.accounts, &payee, Deposit { cents: 1, notes }).await?;
                }
                "withdraw" => {
                    reaction.execute(&self.accounts, "payee", Withdraw { cents: 1 }).await?;
                }
                "restock" => {
                    let _ = reaction.ask(&self.stock, "cup", Receive).await?;
                }
                "ask" => {
                    let (article, order) = ("cup".to_owned(), "ann".to_owned());
                    let _ = reaction.ask(&self.stock, &article, Reserve(order)).await?;
                }
                "insist" => {
                    let (article, order) = ("cup".to_owned(), "ann".to_owned());
                    for _ in 0..20 {
                        if reaction.ask(&self.stock, &article, Reserve(order.clone())).await.is_ok() {
                            break;
                        }
                    }
                }
                "remind" => reaction.schedule(Duration::from_secs(1), Reminder { of: script.to_owned() })?,
                "wait" => self.shared.gate.acquire().await?.forget(),
                "slow" => tokio::time::sleep(Duration::from_secs(1)).await,
                "once" if !reaction.state().lines.is_empty() => return Ok(Vec::new()),
                "then" => break,
                "fail" => {
                    let mut failures = self.shared.failures.lock().expect("no panic");
                    if let Some(left) = failures.get_mut(script)
                        && *left > 0
                    {
                        *left -= 1;
                        return Err(format!("`{script}` is not welcome").into());
                    }
                }
                "note" => events.push(Did { what: script.to_owned() }),
                _ => {}
            }
        }
        Ok(events)
    }
}

impl React<Deposited> for Scripted {
    fn instance(&self, event: &Deposited, _: &EventContext) -> Result<Option<String>, BoxError> {
        let who = event.note.split_once(": ").map_or("", |(who, _)| who);
        if who == "!" {
            return Err("`!` is not the name of an instance".into());
        }
        // Its payments to itself do not count.
        Ok(event.note.split_once(": ").filter(|(who, _)| *who != "for").map(|(who, _)| who.to_owned()))
    }

    async fn react(
        &self,
        event: &Deposited,
        reaction: &mut Reaction<'_, Diary>,
    ) -> Result<Events<Diary>, BoxError> {
        let (_, script) = event.note.split_once(": ").expect("it has an instance");
        Ok(self.carry_out(script, reaction).await?.into())
    }
}

impl React<Reminder> for Scripted {
    fn instance(&self, _: &Reminder, ctx: &EventContext) -> Result<Option<String>, BoxError> {
        Ok(Some(ctx.id().to_owned()))
    }

    async fn react(
        &self,
        event: &Reminder,
        reaction: &mut Reaction<'_, Diary>,
    ) -> Result<Events<Diary>, BoxError> {
        if let Some((_, script)) = event.of.split_once(" then ") {
            return Ok(self.carry_out(script, reaction).await?.into());
        }
        Ok(Did { what: format!("reminded of {}", event.of) }.into())
    }
}

/// Appends an event for a [`Scripted`] process to the stream of an account.
pub(crate) async fn tell(store: &MemoryStore, account: &str, note: &str) {
    tell_with(store, account, note, Metadata::new()).await;
}

pub(crate) async fn tell_with(store: &MemoryStore, account: &str, note: &str, metadata: Metadata) {
    let accounts = Repository::<Account>::builder(store.clone()).clock(Time).build();
    let deposit = Deposit { cents: 1, notes: vec![note.to_owned()] };
    accounts.with_metadata(metadata).execute(&account.to_owned(), deposit).await.expect("accepted");
}

/// Changes a stored document of a process: the one in `collection` whose name starts with `name`.
pub(crate) async fn edit(
    store: &MemoryStore,
    collection: &str,
    name: &str,
    change: impl FnOnce(&mut serde_json::Value),
) {
    let query = DocumentQuery::new(collection).prefix(name);
    let page = store.documents(&query).await.expect("lists");
    let [(name, document)] = &page.documents[..] else { panic!("{collection} has {:?}", page.documents) };
    let mut content = serde_json::from_str(&document.body).expect("JSON");
    change(&mut content);
    let set = ChangeSet::new(uuid::Uuid::from_u128(fastrand::u128(..)));
    let set = set.put(DocumentKey::new(collection, name), ExpectedDocument::Any, content.to_string());
    store.change(&set).await.expect("stores");
}

/// Puts money into the account that is paid.
pub(crate) async fn receive_payments(store: &MemoryStore, cents: u64) {
    let accounts = Repository::<Account>::builder(store.clone()).clock(Time).build();
    accounts.execute("payee", Deposit { cents, notes: vec![String::new()] }).await.expect("accepted");
}

/// Returns the number of payments.
pub(crate) async fn paid(store: &MemoryStore) -> u64 {
    load::<Account>(store, "payee").await.balance
}

pub(crate) async fn diary(store: &MemoryStore) -> Vec<String> {
    diary_of(store, "ann").await
}

pub(crate) async fn diary_of(store: &MemoryStore, instance: &str) -> Vec<String> {
    load::<Diary>(store, instance).await.lines
}

/// Returns an account whose events are in another slice than those of `account`.
pub(crate) async fn elsewhere(store: &MemoryStore, account: &str) -> String {
    let slices = store.slice_tree().await.expect("slices");
    let slice = |name: &str| slices.of(&es_core::StreamId::new("account", name).expect("valid"));
    (0..).map(|number| format!("other-{number}")).find(|name| slice(name) != slice(account)).expect("one")
}

/// Advances the virtual time.
pub(crate) async fn pass(time: Duration) {
    tokio::time::sleep(time).await;
}
