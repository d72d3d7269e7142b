//! `#[handlers]`: the implementations that it generates.

#![allow(missing_docs, unreachable_pub)]
// Unusual forms are accepted, too.
#![allow(clippy::needless_arbitrary_self_type, clippy::double_must_use)]

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use es_core::prelude::*;
use es_core::testing::{TestStore, given, react};
use es_core::{IntoEvents, MemoryStore, RetryPolicy};

#[event]
#[derive(Default)]
pub struct Opened {
    pub owner: String,
}

#[event]
pub struct Deposited {
    pub cents: u64,
}

#[event]
pub struct LimitReached;

#[event]
pub struct Closed;

#[derive(Aggregate, Clone, Debug, Default, PartialEq)]
#[aggregate(name = "account", id = String, events(Opened, Deposited, LimitReached, Closed))]
pub struct Account {
    owner: Option<String>,
    balance: u64,
    is_full: bool,
    closed_at: u64,
}

#[derive(Debug, PartialEq)]
pub struct NotOpen;

#[derive(Debug, PartialEq)]
pub struct Refused {
    pub reason: &'static str,
}

/// A separate block for the events.
#[handlers]
impl Account {
    const LIMIT: u64 = 1_000;

    #[apply]
    fn opened(&mut self, event: &Opened) {
        self.owner = Some(event.owner.clone());
    }

    #[apply]
    fn deposited<'a>(&'a mut self, Deposited { cents }: &'a Deposited) {
        self.balance += cents;
    }

    #[apply]
    fn limit_reached(&mut self, _: &LimitReached) {
        self.is_full = true;
    }

    #[apply]
    pub fn closed(self: &mut Self, _event: &Closed) {
        self.owner = None;
    }

    /// An unmarked method is an ordinary one.
    pub fn is_open(&self) -> bool {
        self.owner.is_some()
    }
}

/// Each command has a different return type.
mod commands {
    pub struct Open<'a> {
        pub owner: &'a str,
    }
    pub struct Deposit(pub u64);
    pub struct Close;
    pub struct CloseIfOpen;
    pub struct DepositTwice(pub u64);
    pub struct DepositAll(pub Vec<u64>);
    pub struct DepositToLimit(pub u64);
    pub struct OpenWith {
        pub owner: &'static str,
        pub cents: u64,
    }
    pub struct Rename(pub Option<&'static str>);
    pub struct DepositVersion;
    pub struct Aliased;
    pub struct Opaque;
    pub struct Checked<T>(pub T);
}
use commands::*;

type Result<T> = std::result::Result<T, Refused>;

#[handlers]
impl Account {
    /// Opens an account. The command borrows.
    #[handle]
    #[must_use]
    pub fn open(&self, command: &Open<'_>) -> std::result::Result<Opened, Refused> {
        if self.is_open() {
            return Err(Refused { reason: "open already" });
        }
        Ok(Opened { owner: command.owner.to_owned() })
    }

    #[handle]
    fn deposit(&self, &Deposit(cents): &Deposit) -> Deposited {
        Deposited { cents }
    }

    #[handle]
    fn close_if_open(&self, _: &CloseIfOpen) -> Option<Closed> {
        self.is_open().then_some(Closed)
    }

    #[handle]
    fn close(&self, _: &Close, ctx: &Context<Self>) -> Result<Option<Closed>> {
        if !ctx.exists() {
            return Err(Refused { reason: "never opened" });
        }
        Ok(self.is_open().then_some(Closed))
    }

    #[handle]
    fn deposit_twice(&self, command: &DepositTwice) -> [Deposited; 2] {
        [Deposited { cents: command.0 }, Deposited { cents: command.0 }]
    }

    #[handle]
    fn deposit_all(&self, command: &DepositAll) -> Vec<Deposited> {
        command.0.iter().map(|&cents| Deposited { cents }).collect()
    }

    #[handle]
    fn deposit_to_limit(&self, command: &DepositToLimit) -> (Deposited, Option<LimitReached>) {
        let is_full = self.balance + command.0 >= Self::LIMIT;
        (Deposited { cents: command.0 }, is_full.then_some(LimitReached))
    }

    #[handle]
    fn open_with(&self, command: &OpenWith) -> std::result::Result<(Events<Self>, Deposited), NotOpen> {
        let opened = Opened { owner: command.owner.to_owned() };
        Ok((Events::from(opened).claim("owner", command.owner), Deposited { cents: command.cents }))
    }

    #[handle]
    fn rename(&self, command: &Rename, _: &Context<Self>) -> Events<Self> {
        command.0.map_or_else(Events::none, |owner| Opened { owner: owner.to_owned() }.into())
    }

    #[handle]
    fn deposit_version(&self, _: &DepositVersion, ctx: &Context<Account>) -> Deposited {
        Deposited { cents: ctx.version().get() }
    }

    #[handle]
    fn opaque(&self, _: &Opaque) -> impl IntoEvents<Self> {
        (Deposited { cents: 1 }, LimitReached)
    }

    #[handle]
    fn checked<T>(&self, command: &Checked<T>) -> Result<Deposited>
    where
        T: Copy + Into<u64>,
    {
        let cents = command.0.into();
        if cents == 0 { Err(Refused { reason: "nothing" }) } else { Ok(Deposited { cents }) }
    }
}

/// Only one of the two methods exists, and neither of the events below.
#[handlers]
impl Account {
    #[cfg(test)]
    #[handle]
    fn aliased(&self, _: &Aliased) -> Result<Deposited> {
        Err(Refused { reason: "here" })
    }

    #[cfg(not(test))]
    #[handle]
    fn aliased(&self, _: &Aliased) -> Deposited {
        Deposited { cents: 1 }
    }

    #[cfg(not(test))]
    #[apply]
    fn deposited(&mut self, _: &Deposited) {}
}

#[cfg(not(test))]
#[handlers]
impl Account {
    #[apply]
    fn closed_again(&mut self, _: &Closed) {}
}

#[test]
fn methods_can_be_called_as_such() {
    let mut account = Account::default();
    account.opened(&Opened { owner: "Ann".to_owned() });
    assert_eq!(account.open(&Open { owner: "Bob" }), Err(Refused { reason: "open already" }));
    account.closed(&Closed);
    assert!(!account.is_open());
}

#[test]
fn results_of_all_types_become_events() {
    let deposited = |cents| Deposited { cents };
    given::<Account>(Events::none())
        .when(Open { owner: "Ann" })
        .then([Opened { owner: "Ann".to_owned() }])
        .when(Deposit(5))
        .then([deposited(5)])
        .when(DepositTwice(2))
        .then([deposited(2), deposited(2)])
        .when(DepositAll(vec![3, 4]))
        .then([deposited(3), deposited(4)])
        .when(DepositToLimit(1))
        .then([deposited(1)])
        .when(DepositToLimit(2_000))
        .then(events![deposited(2_000), LimitReached])
        .when(Rename(None))
        .then_nothing()
        .when(Rename(Some("Bob")))
        .then([Opened { owner: "Bob".to_owned() }])
        .when(DepositVersion)
        .then([deposited(10)])
        .when(Opaque)
        .then(events![deposited(1), LimitReached])
        .when(Checked(7_u32))
        .then([deposited(7)])
        .when(CloseIfOpen)
        .then([Closed])
        .when(CloseIfOpen)
        .then_nothing()
        .when(Close)
        .then_nothing();
}

#[test]
fn rejections_have_the_types_of_the_methods() {
    let account = || given::<Account>(Events::none());
    account().when(Close).then_error(Refused { reason: "never opened" });
    account().when(Checked(0_u8)).then_error(Refused { reason: "nothing" });
    account().when(Aliased).then_error(Refused { reason: "here" });
    fn error_of<C>(_: C) -> &'static str
    where
        Account: Handle<C>,
    {
        std::any::type_name::<<Account as Handle<C>>::Error>()
    }
    assert_eq!(error_of(Deposit(1)), std::any::type_name::<Infallible>());
    assert_eq!(error_of(OpenWith { owner: "", cents: 0 }), std::any::type_name::<NotOpen>());
}

#[test]
fn claims_are_kept_beside_other_events() {
    let account = Account::default();
    let ctx = Context::new(
        "ann".to_owned(),
        Version::NONE,
        chrono::DateTime::UNIX_EPOCH,
        Arc::new(es_core::ids::SequentialIds::default()),
    );
    let events = Handle::handle(&account, &OpenWith { owner: "Ann", cents: 5 }, &ctx).expect("accepted");
    let expected: Events<Account> = events![Opened { owner: "Ann".to_owned() }, Deposited { cents: 5 }];
    assert_eq!(events, expected.claim("owner", "Ann"));
}

/// Handlers of a projection, `async` or not, with or without context and result.
#[derive(Clone, Default, Projection)]
#[projection(name = "log", events(Account(Opened, Deposited, LimitReached, Closed)))]
struct Log(Arc<Mutex<Vec<String>>>);

#[handlers]
impl Log {
    fn add(&self, line: String) {
        self.0.lock().expect("no panic").push(line);
    }

    #[project]
    async fn opened(&mut self, event: &Opened, ctx: &EventContext) -> std::result::Result<(), BoxError> {
        tokio::task::yield_now().await;
        self.add(format!("{} opened {}", event.owner, ctx.id()));
        Ok(())
    }

    #[project]
    fn deposited(&self, event: &Deposited) -> std::result::Result<(), std::num::TryFromIntError> {
        let cents = u8::try_from(event.cents)?;
        self.add(cents.to_string());
        Ok(())
    }

    #[project]
    async fn limit_reached(&mut self, _: &LimitReached) {
        self.add("limit".to_owned());
    }

    #[project]
    fn closed(&mut self, _: &Closed, ctx: &EventContext) {
        self.add(format!("closed {}", ctx.id()));
    }
}

#[tokio::test]
async fn projections_handle_events() {
    let store = MemoryStore::new();
    let accounts: Repository<Account> = Repository::new(store.clone());
    let ann = "ann".to_owned();
    accounts.execute(&ann, Open { owner: "Ann" }).await.expect("opens");
    accounts.execute(&ann, DepositToLimit(255)).await.expect("deposits");
    accounts.execute(&ann, Opaque).await.expect("deposits");
    accounts.execute(&ann, CloseIfOpen).await.expect("closes");
    let log = Log::default();
    Projector::new(store.clone(), log.clone()).run_until_caught_up().await.expect("projects");
    assert_eq!(*log.0.lock().expect("no panic"), ["Ann opened ann", "255", "1", "limit", "closed ann"]);

    accounts.execute(&ann, Deposit(256)).await.expect("deposits");
    let projector = Projector::builder(store, Log::default()).retry(RetryPolicy::never()).build();
    let error = projector.run_until_caught_up().await.expect_err("too many");
    assert!(es_core::error_text(&error).contains("out of range integral type conversion"), "{error:?}");
}

#[event]
pub struct Noted {
    pub text: String,
}

/// The state of a process whose instances have numbers as ids.
#[derive(Aggregate, Clone, Debug, Default, PartialEq)]
#[aggregate(name = "notes", id = u32, events(Noted))]
pub struct Notes {
    texts: Vec<String>,
}

#[handlers]
impl Notes {
    #[apply]
    fn noted(&mut self, event: &Noted) {
        self.texts.push(event.text.clone());
    }
}

#[derive(Clone, Process)]
#[process(
    name = "noting",
    state = Notes,
    events(Account(Opened, Deposited, LimitReached, Closed)),
    timeouts(Noted)
)]
struct Noting {
    accounts: Repository<Account>,
}

fn owner_as_number(event: &Opened) -> std::result::Result<u32, std::num::ParseIntError> {
    event.owner.parse()
}

#[handlers]
impl Noting {
    #[react]
    async fn closed(
        &self,
        _: &Closed,
        reaction: &mut Reaction<'_, Notes>,
    ) -> std::result::Result<Option<Noted>, BoxError> {
        let id = reaction.context().id().to_owned();
        reaction.execute(&self.accounts, &id, Deposit(1)).await?;
        Ok(Some(Noted { text: format!("closed {id}") }))
    }

    #[react(instance = |event| u32::try_from(event.cents).ok())]
    fn deposited(&self, event: &Deposited) -> Noted {
        Noted { text: event.cents.to_string() }
    }

    #[react(instance = owner_as_number)]
    async fn opened(&self, _: &Opened) -> [Noted; 2] {
        [Noted { text: "a".to_owned() }, Noted { text: "b".to_owned() }]
    }

    #[react(instance = |_, ctx| ctx.id().len() as u32)]
    async fn limit_reached(
        &self,
        _: &LimitReached,
        reaction: &mut Reaction<'_, Notes>,
    ) -> std::result::Result<(), BoxError> {
        reaction.schedule(std::time::Duration::from_secs(1), Noted { text: "late".to_owned() })?;
        Ok(())
    }

    #[react]
    fn noted(
        &self,
        event: &Noted,
        _: &mut Reaction<'_, Notes>,
    ) -> std::result::Result<Noted, std::fmt::Error> {
        Ok(event.clone())
    }
}

#[tokio::test]
async fn processes_react_on_the_instance_of_the_event() {
    let process = |store: &TestStore| Noting { accounts: Repository::new(store.clone()) };
    let noted = |text: &str| Noted { text: text.to_owned() };
    react(process)
        .when::<Account>("7", Closed)
        .await
        .then_events::<Notes>("7", [noted("closed 7")])
        .then_events::<Account>("7", [Deposited { cents: 1 }]);
    react(process)
        .when::<Account>("ann", Deposited { cents: 12 })
        .await
        .then_events::<Notes>("12", [noted("12")]);
    react(process).when::<Account>("ann", Deposited { cents: u64::MAX }).await.then_nothing::<Account>("ann");
    react(process)
        .when::<Account>("ann", Opened { owner: "31".to_owned() })
        .await
        .then_events::<Notes>("31", [noted("a"), noted("b")]);
    react(process)
        .when::<Account>("1234", LimitReached)
        .await
        .then_nothing::<Notes>("4")
        .later(std::time::Duration::from_secs(1))
        .await
        .then_events::<Notes>("4", [noted("late")]);
}

#[tokio::test]
async fn an_event_that_names_no_instance_fails() {
    let store = MemoryStore::new();
    let accounts: Repository<Account> = Repository::new(store.clone());
    accounts.execute(&"ann".to_owned(), Open { owner: "x" }).await.expect("opens");
    let process = Noting { accounts };
    let projector = Projector::process_builder(store, process).retry(RetryPolicy::never()).build();
    let error = projector.run_until_caught_up().await.expect_err("no number");
    assert!(es_core::error_text(&error).contains("invalid digit"), "{error:?}");
}

/// A block whose tokens are generated by a macro, with `$crate` paths and types as fragments.
mod out_of_a_macro {
    use super::*;

    #[event]
    pub struct Stepped {
        pub by: u64,
    }

    macro_rules! walker {
        ($name:ident, $event:ty, $command:ty, $result:ty) => {
            #[derive(Aggregate, Debug, Default, PartialEq)]
            #[aggregate(name = "walker", id = u8, events(Stepped))]
            pub struct $name(u64);

            #[handlers]
            impl $name {
                #[apply]
                fn event(&mut self, event: &$event) {
                    self.0 += event.by;
                }

                #[handle]
                fn command(&self, by: &$command) -> $result {
                    Ok(Stepped { by: *by })
                }
            }
        };
    }

    walker!(Walker, Stepped, u64, std::result::Result<Stepped, NotOpen>);

    #[test]
    fn works() {
        given::<Walker>([Stepped { by: 1 }]).when(2_u64).then([Stepped { by: 2 }]).then_state(Walker(3));
    }
}

/// A generic projection cannot use the derive, but can implement the trait and have handlers.
mod generics {
    use es_core::event::EventData;
    use es_core::feed::EventFilter;
    use es_core::projection::ProjectError;

    use super::*;

    #[derive(Clone, Default)]
    struct Sums<T>(Arc<Mutex<T>>);

    impl<T, E> es_core::__private::ProjectionLists<E> for Sums<T> {}

    #[handlers]
    impl<T> Sums<T>
    where
        T: std::ops::AddAssign<u64> + Clone + Send + 'static,
    {
        #[project]
        async fn deposited(&mut self, event: &Deposited) {
            *self.0.lock().expect("no panic") += event.cents;
        }
    }

    impl<T: std::ops::AddAssign<u64> + Clone + Send + 'static> Projection for Sums<T> {
        const NAME: &'static str = "sums";

        fn filter(&self) -> EventFilter {
            EventFilter::none().with_event::<Deposited>(Account::NAME)
        }

        async fn handle(
            &mut self,
            event: &EventData,
            ctx: &EventContext,
        ) -> std::result::Result<(), ProjectError> {
            let event = <Deposited as es_core::Event>::decode(event)?;
            self.project(&event, ctx).await.map_err(ProjectError::Handler)
        }
    }

    #[tokio::test]
    async fn are_those_of_the_block() {
        let store = MemoryStore::new();
        let accounts: Repository<Account> = Repository::new(store.clone());
        accounts.execute(&"ann".to_owned(), DepositTwice(4)).await.expect("deposits");
        let sums = Sums::<u64>::default();
        Projector::new(store, sums.clone()).run_until_caught_up().await.expect("projects");
        assert_eq!(*sums.0.lock().expect("no panic"), 8);
    }
}
