//! A process on a server whose connections are killed: each event leads to one reaction, and each timeout fires once.

use std::time::{Duration, Instant};

use es_core::Version;
use es_core::prelude::*;
use es_core::process::Reacting;
use es_postgres::PostgresStore;
use es_postgres::sqlx;
use es_tests::domain::{Account, Deposit, Deposited};
use fastrand::Rng;
use uuid::Uuid;

/// The number of deposits, and of workers.
const DEPOSITS: u64 = 40;
const WORKERS: usize = 3;

/// The time between a gift and its confirmation.
const CONFIRMATION: Duration = Duration::from_millis(100);

/// The lease of a worker: short, so that workers that lose their connections take over from each other.
const LEASE: Duration = Duration::from_millis(500);

#[event]
struct Given {
    note: String,
}

#[event]
struct Confirmed {
    note: String,
}

/// The gifts for one account.
#[derive(Aggregate, Clone, Debug, Default)]
#[aggregate(name = "gifts", id = String, events(Given, Confirmed))]
struct Gifts {
    given: Vec<String>,
    confirmed: Vec<String>,
}

#[handlers]
impl Gifts {
    #[apply]
    fn given(&mut self, event: &Given) {
        self.given.push(event.note.clone());
    }

    #[apply]
    fn confirmed(&mut self, event: &Confirmed) {
        self.confirmed.push(event.note.clone());
    }
}

/// Gives as much again, and confirms each gift later.
#[derive(Clone, Process)]
#[process(name = "give", state = Gifts, events(Account(Deposited)), timeouts(Confirmed))]
struct Give {
    accounts: Repository<Account>,
}

impl React<Deposited> for Give {
    fn instance(&self, event: &Deposited, ctx: &EventContext) -> Result<Option<String>, BoxError> {
        Ok(event.note.starts_with("deposit").then(|| ctx.id().to_owned()))
    }

    async fn react(
        &self,
        event: &Deposited,
        reaction: &mut Reaction<'_, Gifts>,
    ) -> Result<Events<Gifts>, BoxError> {
        let note = format!("gift for {}", event.note);
        let gift = Deposit::one(event.cents, &note);
        reaction.execute(&self.accounts, &format!("{} gifts", reaction.id()), gift).await?;
        reaction.schedule(CONFIRMATION, Confirmed { note: note.clone() })?;
        Ok(Given { note }.into())
    }
}

impl React<Confirmed> for Give {
    fn instance(&self, _: &Confirmed, ctx: &EventContext) -> Result<Option<String>, BoxError> {
        Ok(Some(ctx.id().to_owned()))
    }

    async fn react(&self, event: &Confirmed, _: &mut Reaction<'_, Gifts>) -> Result<Events<Gifts>, BoxError> {
        Ok(event.clone().into())
    }
}

fn projector(store: &PostgresStore) -> Projector<Reacting<Give>> {
    let give = Give { accounts: Repository::new(store.clone()) };
    Projector::process_builder(store.clone(), give).lease(LEASE).build()
}

/// Returns a store on the same schema with a separate pool, whose connections have a name.
fn beside(store: &PostgresStore, application: &str) -> PostgresStore {
    let options = (*store.pool().connect_options()).clone().application_name(application);
    let pool = sqlx::postgres::PgPoolOptions::new().max_connections(8).test_before_acquire(false);
    let store = PostgresStore::builder(pool.connect_lazy_with(options)).schema(store.schema());
    store.build().expect("a valid name")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a PostgreSQL server"]
async fn reactions_and_timeouts_take_effect_once() {
    let store = crate::store().await;
    let application = format!("process {}", Uuid::new_v4().simple());
    let accounts: Repository<Account> = Repository::new(store.clone());
    let mut random = Rng::with_seed(7);
    let mut workers = Vec::new();
    for _ in 0..WORKERS {
        let projector = projector(&beside(&store, &application));
        let running = projector.clone();
        workers.push((projector, tokio::spawn(async move { running.run().await })));
    }
    let mut killed = 0;
    for number in 0..DEPOSITS {
        let account = format!("account {}", number % 3);
        accounts.execute(&account, Deposit::one(1, format!("deposit {number}"))).await.expect("accepted");
        if random.u8(..3) == 0 {
            let kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                        WHERE application_name = $1 AND random() < 0.5";
            let kill = sqlx::query(kill).bind(&application).fetch_all(store.pool());
            killed += kill.await.expect("kills").len();
        }
        tokio::time::sleep(Duration::from_millis(random.u64(..40))).await;
    }
    let gifts: Repository<Gifts> = Repository::new(store.clone());
    for number in 0..3 {
        let account = format!("account {number}");
        let expected: Vec<_> =
            (0..DEPOSITS).filter(|of| of % 3 == number).map(|of| format!("gift for deposit {of}")).collect();
        let started = Instant::now();
        while gifts.load(&account).await.expect("loads").version < Version::new(2 * expected.len() as u64) {
            assert!(started.elapsed() < Duration::from_secs(60), "{account}: a reaction is missing");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let state = gifts.load(&account).await.expect("loads").state;
        let mut confirmed = state.confirmed.clone();
        confirmed.sort_by_key(|note| expected.iter().position(|other| other == note));
        assert_eq!((&state.given, &confirmed), (&expected, &expected), "{account}");
        let paid = accounts.load(&format!("{account} gifts")).await.expect("loads").state;
        assert_eq!(paid.notes, expected, "{account}");
    }
    assert!(killed > 10, "only {killed} connections were killed");
    for (projector, worker) in workers {
        projector.shutdown();
        worker.await.expect("no panic").expect("stops");
    }
}
