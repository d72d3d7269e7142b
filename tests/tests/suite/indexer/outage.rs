//! The log while a table is unreachable: a warning at first and then once a minute, and a message at the end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::AttributeValue;
use aws_smithy_runtime_api::client::http::{HttpConnector, HttpConnectorFuture, SharedHttpConnector};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::result::ConnectorError;
use es_core::event::EventData;
use es_core::feed::Slices;
use es_core::prelude::*;
use es_core::store::Append;
use es_core::{EventStore, ExpectedVersion, StreamId};
use es_dynamo::embedded::{Connector, Engine};
use es_dynamo::{DynamoStore, Indexer, Reconciler, StreamsClient};
use es_tests::chaos::projections::VirtualTime;
use es_tests::conformance::new_commit;
use es_tests::domain::{Account, Deposited};
use tokio::time::sleep;
use tracing::Level;

use super::deposit;
use es_tests::recorder::{Line, Seen};

const MINUTE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_secs(5);
/// The start and the end of the outage.
const BEGIN: Duration = MINUTE;
const END: Duration = Duration::from_secs(10 * 60);
/// The longest time between two attempts of a worker, each of which is several attempts of the SDK.
const ATTEMPT: Duration = Duration::from_secs(25);

/// A connector that can be closed.
#[derive(Clone, Debug)]
struct Gate {
    way: Connector,
    is_closed: Arc<AtomicBool>,
}

impl HttpConnector for Gate {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        if self.is_closed.load(Ordering::SeqCst) {
            let error = ConnectorError::io("refused on purpose".into());
            return HttpConnectorFuture::ready(Err(error));
        }
        self.way.call(request)
    }
}

/// The source of commits of an indexer.
#[derive(Clone, Copy, Debug)]
enum Source {
    Stream,
    Outbox,
}

fn open(engine: &Engine, source: Source, way: impl HttpConnector + 'static) -> DynamoStore {
    let way = SharedHttpConnector::new(way);
    let builder = DynamoStore::builder().slices(Slices::new(1).expect("not zero"));
    let builder = match source {
        Source::Outbox => builder.engine(engine),
        Source::Stream => {
            let config = engine.streams_config_through(way.clone()).build();
            builder.streams_client(StreamsClient::from_conf(config))
        }
    };
    let client = Client::from_conf(engine.config_through(way).build());
    builder.client(client).build().expect("a valid table name")
}

/// Returns the log of a worker during an outage, with commits before it and during it.
///
/// `work` runs the worker until `stop` completes.
fn log_of(source: Source, work: impl AsyncFn(DynamoStore, Stop<'_>)) -> Vec<Line> {
    let seen = Seen::default();
    seen.record(async {
        let engine = Engine::in_memory().expect("starts");
        let gate = Gate { way: engine.connector().in_place(), is_closed: Arc::default() };
        let truth = open(&engine, source, gate.way.clone());
        truth.create_table().await.expect("creates the table");
        let weather = async {
            deposit(&truth, 2, 2).await;
            sleep(BEGIN).await;
            gate.is_closed.store(true, Ordering::SeqCst);
            deposit(&truth, 2, 2).await;
            sleep(END - BEGIN).await;
            gate.is_closed.store(false, Ordering::SeqCst);
            sleep(MINUTE * 2).await;
        };
        work(open(&engine, source, gate.clone()), Box::pin(weather)).await;
        super::check(&truth, 12).await;
    });
    seen.lines(Level::INFO)
}

/// Completes when the worker should stop.
type Stop<'a> = std::pin::Pin<Box<dyn Future<Output = ()> + 'a>>;

/// Checks the warnings of an outage, and that `message` is logged once at its end.
fn assert_told(log: &[Line], message: &str) {
    let (alarms, rest): (Vec<_>, Vec<_>) = log.iter().partition(|line| line.level <= Level::WARN);
    let first = alarms.first().expect("a warning");
    assert!((BEGIN..BEGIN + ATTEMPT).contains(&first.at), "{first:?}");
    for pair in alarms.windows(2) {
        let pause = pair[1].at - pair[0].at;
        assert!((MINUTE..MINUTE + ATTEMPT).contains(&pause), "{pause:?}: {pair:?}");
    }
    for alarm in &alarms {
        assert!(alarm.level == Level::WARN && alarm.at < END + ATTEMPT, "{alarm:?}");
        assert!(alarm.fields.text("error").contains("refused on purpose"), "{alarm:?}");
    }
    assert!((6..=9).contains(&alarms.len()), "{alarms:?}");
    let over: Vec<_> = rest.iter().filter(|line| line.fields.message() == message).collect();
    let [over] = over[..] else { panic!("{rest:?}") };
    assert!((END..END + ATTEMPT).contains(&over.at), "{over:?}");
}

#[test]
fn an_indexer_warns_at_once_and_then_once_a_minute() {
    for source in [Source::Stream, Source::Outbox] {
        let log = log_of(source, async |store, stop| {
            let indexer = Indexer::builder(&store).poll(POLL).build().expect("has a source");
            let shutdown = async {
                stop.await;
                indexer.shutdown();
            };
            let (ended, ()) = tokio::join!(indexer.run(), shutdown);
            ended.expect("goes through the outage");
        });
        assert_told(&log, "the table responds again");
    }
}

/// A projection that does nothing.
#[derive(Clone, Projection)]
#[projection(name = "idle", events(Account(Deposited)))]
struct Idle;

impl Project<Deposited> for Idle {
    async fn project(&mut self, _: &Deposited, _: &EventContext) -> Result<(), BoxError> {
        Ok(())
    }
}

#[test]
fn a_projector_warns_at_once_and_then_once_a_minute() {
    let log = log_of(Source::Outbox, async |store, stop| {
        let clock = VirtualTime::new(chrono::TimeDelta::zero());
        let projector = Projector::builder(store.clone(), Idle).poll(POLL).clock(clock).build();
        let shutdown = async {
            stop.await;
            projector.shutdown();
        };
        let (ended, ()) = tokio::join!(projector.run(), shutdown);
        ended.expect("goes through the outage");
        Reconciler::builder(&store).build().run().await.expect("reconciles");
    });
    assert_told(&log, "the store responds again");
}

/// A stream that is no longer indexed is logged once, although it keeps growing.
#[test]
fn a_damaged_stream_is_logged_once() {
    let seen = Seen::default();
    seen.record(async {
        let engine = Engine::in_memory().expect("starts");
        let store = open(&engine, Source::Outbox, engine.connector().in_place());
        store.create_table().await.expect("creates the table");
        deposit(&store, 2, 2).await;
        let delete = store.client().delete_item().table_name(store.table_name());
        let delete = delete.key("pk", AttributeValue::S("account#0".to_owned()));
        delete.key("sk", AttributeValue::S("E#000000000001".to_owned())).send().await.expect("deletes");
        let indexer = Indexer::builder(&store).poll(POLL).build().expect("has a source");
        let growth = async {
            for _ in 0..3 {
                deposit_again(&store, "0").await;
                deposit_again(&store, "1").await;
                sleep(MINUTE).await;
            }
            indexer.shutdown();
        };
        let (ended, ()) = tokio::join!(indexer.run(), growth);
        ended.expect("indexes the other stream");
        assert_eq!(indexer.progress().damaged.len(), 1);
    });
    let log = seen.log(Level::WARN);
    let [damaged] = &log[..] else { panic!("{log:?}") };
    assert_eq!((damaged.message(), damaged.text("stream")), ("a stream is no longer indexed", "account#0"));
}

/// Appends a deposit without a load, which would find the damage.
async fn deposit_again(store: &DynamoStore, account: &str) {
    let stream = StreamId::new("account", account).expect("a valid stream");
    let event = EventData::new("Deposited", 1, r#"{"cents":1,"note":""}"#);
    let append = Append::new(stream, ExpectedVersion::Any, new_commit(vec![event]));
    store.append(&append).await.expect("appends");
}
