//! Publishing to a simulated broker: the requests, and the meaning of the responses.

use es_core::publish::{CloudEvents, Envelope, Outbox, PublishError, Publisher};
use es_core::{EventContext, RetryPolicy, StreamId};
use es_dynamo::publishers::SnsPublisher;

use super::broker::{Act, Broker, FIFO_QUEUE, QUEUE, Service, TOPIC};
use super::envelopes::{clock, envelope, envelope_of, send, stream};

/// Returns the versions of the accepted messages of a stream, in order.
fn versions(broker: &Broker, stream: &StreamId) -> Vec<u64> {
    let events = broker.messages().into_iter().map(|message| message.event());
    let of_stream = events.filter(|event| event["subject"] == stream.as_str());
    let version = |text: &str| text.parse().expect("is a number");
    of_stream.map(|event| version(event["sequence"].as_str().expect("has its version"))).collect()
}

/// Publishes one event.
async fn publish_one(publisher: &dyn Publisher, envelope: Envelope) -> Result<(), PublishError> {
    let outcomes = publisher.publish(&[envelope]).await?;
    assert_eq!(outcomes.len(), 1);
    outcomes.into_iter().next().expect("one")
}

#[tokio::test]
async fn the_order_of_each_stream_survives_any_failure() {
    for service in Service::ALL {
        for seed in 0..100 {
            let mut random = fastrand::Rng::with_seed(seed);
            let broker = Broker::new(service, move |_, _| match random.u8(0..20) {
                0 => Act::LoseRequest,
                1 => Act::LoseAnswer,
                2 => Act::Throttle,
                3 => Act::Fail,
                4..9 => Act::Refuse,
                _ => Act::Accept,
            });
            send(&*broker.publisher()).await.expect("is accepted in the end");
            for number in 0..3 {
                let mut versions = versions(&broker, &stream(number));
                if !service.is_fifo() {
                    // A message whose response was lost is sent again.
                    versions.dedup();
                }
                assert_eq!(versions, [1, 2, 3], "{service:?}, seed {seed}");
            }
        }
    }
}

#[tokio::test]
async fn only_failed_messages_are_sent_again() {
    for service in Service::ALL {
        let plan = |request, place| if (request, place) == (0, 1) { Act::Refuse } else { Act::Accept };
        let broker = Broker::new(service, plan);
        let publisher = broker.publisher();
        let mut outbox = Outbox::new();
        for number in 0..3 {
            outbox.push(envelope(&stream(number), 1, 9), &*publisher).expect("is small");
        }
        outbox.send(&*publisher, RetryPolicy::default(), &clock()).await.expect("is accepted in the end");
        assert_eq!(broker.batches(), [3, 1], "{service:?}");
        let streams: Vec<_> =
            broker.messages().iter().map(|message| message.event()["subject"].clone()).collect();
        assert_eq!(streams, ["order#0", "order#2", "order#1"], "{service:?}");
    }
}

#[tokio::test]
async fn a_message_contains_its_envelope() {
    for service in Service::ALL {
        let broker = Broker::new(service, |_, _| Act::Accept);
        let envelope = envelope(&stream(1), 4, 9);
        publish_one(&*broker.publisher(), envelope.clone()).await.expect("is accepted");
        let message = broker.messages().remove(0);
        assert_eq!(message.body.as_bytes(), envelope.body(), "{service:?}");
        let attributes: Vec<_> =
            message.attributes.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        if service == Service::EventBridge {
            let expected =
                [("DetailType", "Counted"), ("EventBusName", "orders"), ("Source", "example.shop")];
            assert_eq!(attributes, expected);
        } else {
            let expected = [("content-type", "application/cloudevents+json"), ("event-name", "Counted")];
            assert_eq!(attributes, expected, "{service:?}");
        }
        // A standard queue or topic rejects a deduplication id.
        let ids = match service.is_fifo() {
            true => (Some("order#1".to_owned()), Some(envelope.id().to_string())),
            false => (None, None),
        };
        assert_eq!((message.group, message.deduplication), ids, "{service:?}");
    }
}

#[tokio::test]
async fn every_stream_has_a_valid_group_id() {
    let group = async |id: &str| {
        let broker = Broker::new(Service::FifoSqs, |_, _| Act::Accept);
        let stream = StreamId::new("order", id).expect("a stream");
        publish_one(&broker.sqs(FIFO_QUEUE), envelope(&stream, 1, 9)).await.expect("is accepted");
        broker.messages().remove(0).group.expect("has a group id")
    };
    let longest = "a".repeat(128 - "order#".len());
    assert_eq!(group(&longest).await, format!("order#{longest}"));
    let mut digests = Vec::new();
    for id in [&*format!("{longest}a"), &*format!("{longest}b"), "a b", "ü", "日本"] {
        let digest = group(id).await;
        assert!(digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit()), "{digest}");
        assert!(!digests.contains(&digest), "{id}");
        digests.push(digest);
    }
}

#[tokio::test]
async fn requests_stay_within_the_limits() {
    for (service, limit) in [
        (Service::EventBridge, (1 << 20) - 1),
        (Service::Sqs, 1 << 20),
        (Service::FifoSqs, 1 << 20),
        (Service::Sns, 256 << 10),
        (Service::FifoSns, 256 << 10),
    ] {
        let broker = Broker::new(service, |_, _| Act::Accept);
        let publisher = broker.publisher();
        let mut outbox = Outbox::new();
        for number in 0..12 {
            outbox.push(envelope(&stream(number), 1, 9), &*publisher).expect("is small");
        }
        for number in 12..15 {
            outbox.push(envelope(&stream(number), 1, limit / 2), &*publisher).expect("is small enough");
        }
        outbox.send_once(&*publisher).await.expect("is accepted");
        assert_eq!(broker.batches(), [10, 3, 1, 1], "{service:?}");

        let overhead = publisher.size(&envelope(&stream(0), 1, 0));
        let largest = envelope(&stream(0), 1, limit - overhead);
        assert_eq!(publisher.size(&largest), limit);
        outbox.push(largest, &*publisher).expect("is small enough");
        let error = outbox.push(envelope(&stream(1), 1, limit - overhead + 1), &*publisher);
        let error = error.expect_err("is too large").to_string();
        let expected = format!("its message has {} bytes, and the broker accepts at most {limit}", limit + 1);
        assert!(error.ends_with(&expected), "{error}");
    }
}

#[test]
fn limits_can_be_configured_as_those_of_the_destination() {
    let broker = Broker::new(Service::Sns, |_, _| Act::Accept);
    let publisher = SnsPublisher::new(broker.sns(), TOPIC).message_limit(usize::MAX);
    assert_eq!((publisher.limits().envelope_bytes, publisher.limits().bytes), (1 << 20, 1 << 20));
    let publisher = broker.sqs(QUEUE).message_limit(1000);
    assert_eq!((publisher.limits().envelope_bytes, publisher.limits().bytes), (1000, 1 << 20));
    assert_eq!(publisher.message_limit(usize::MAX).limits().envelope_bytes, 1 << 20);
}

#[tokio::test]
async fn only_errors_of_messages_are_permanent() {
    use Service::{EventBridge, Sns, Sqs};

    let permissions = "needs the permissions events:PutEvents and events:DescribeEventBus: ";
    for (service, code, is_transient, expected) in [
        (EventBridge, "AccessDeniedException", true, permissions),
        (EventBridge, "ExpiredTokenException", true, "ExpiredTokenException: on purpose"),
        (EventBridge, "SomethingNew", true, "SomethingNew: on purpose"),
        (EventBridge, "ValidationException", false, "ValidationException: on purpose"),
        (Sqs, "QueueDoesNotExist", true, "/orders` does not exist: QueueDoesNotExist: on purpose"),
        (Sqs, "AWS.SimpleQueueService.NonExistentQueue", true, "/orders` does not exist: "),
        (Sqs, "AccessDeniedException", true, "/orders` needs the permissions sqs:SendMessage: "),
        (Sqs, "RequestThrottled", true, "RequestThrottled: on purpose"),
        (Sqs, "KmsThrottled", true, "KmsThrottled: on purpose"),
        (Sqs, "AWS.SimpleQueueService.BatchRequestTooLong", false, "BatchRequestTooLong: on purpose"),
        (Sqs, "InvalidMessageContents", false, "InvalidMessageContents: on purpose"),
        (Sns, "NotFound", true, ":orders` does not exist: NotFound: on purpose"),
        (Sns, "AuthorizationError", true, ":orders` needs the permissions sns:Publish: "),
        (Sns, "KMSThrottling", true, "KMSThrottling: on purpose"),
        (Sns, "InvalidParameter", false, "InvalidParameter: on purpose"),
        (Sns, "BatchRequestTooLong", false, "BatchRequestTooLong: on purpose"),
    ] {
        let broker = Broker::new(service, move |_, _| Act::Say(code));
        let outcome = publish_one(&*broker.publisher(), envelope(&stream(0), 1, 9)).await;
        let error = outcome.expect_err("is refused");
        assert_eq!(error.is_transient(), is_transient, "{service:?}, {code}");
        assert!(error.to_string().contains(expected), "{error}");
        assert_eq!(broker.batches(), [1], "{service:?}, {code}");
    }
}

/// For example from a broken gateway, with the status 200.
#[tokio::test]
async fn a_response_of_another_service_is_not_an_acknowledgement() {
    for service in Service::ALL {
        for body in
            ["", "{}", "null", r#"{"message":"ok"}"#, "<html>", r#"{"Entries":[]}"#, r#"{"Entries":[{}]}"#]
        {
            let broker = Broker::new(service, move |_, _| Act::Answer(body));
            let outcome = publish_one(&*broker.publisher(), envelope(&stream(0), 1, 9)).await;
            assert!(outcome.expect_err("is no acknowledgement").is_transient(), "{service:?}, {body}");
        }
    }
}

#[tokio::test]
async fn a_message_that_the_service_cannot_accept_does_not_affect_others() {
    let line = |body: &'static [u8]| {
        move |event: &es_core::event::EventData, ctx: &EventContext| {
            Ok::<_, es_core::BoxError>(Envelope::new(event, ctx, "text/plain", body))
        }
    };
    for service in Service::ALL {
        let broker = Broker::new(service, |_, _| Act::Accept);
        let publisher = broker.publisher();
        let batch = [envelope_of(&stream(0), 1, "1", line(b"\xff")), envelope(&stream(1), 1, 9)];
        let outcomes = publisher.publish(&batch).await.expect("is answered");
        let error = outcomes[0].as_ref().expect_err("is not text");
        assert!(
            !error.is_transient() && error.to_string().ends_with("encode the message in UTF-8"),
            "{error}"
        );
        assert!(outcomes[1].is_ok(), "{service:?}");
        assert_eq!(broker.batches(), [1], "{service:?}");

        if service != Service::EventBridge {
            for (body, expected) in [(&b""[..], "does not accept an empty message"), (b"a\x01", "U+0001")] {
                let envelope = envelope_of(&stream(0), 1, "1", line(body));
                let error = publish_one(&*publisher, envelope).await.expect_err("is not accepted");
                assert!(!error.is_transient() && error.to_string().contains(expected), "{error}");
            }
            let source = CloudEvents::source("/tests").expect("a source");
            let envelope = envelope_of(&stream(0), 1, "\"\u{FFFE}\"", source);
            let error = publish_one(&*publisher, envelope).await.expect_err("is not accepted").to_string();
            assert!(
                error.ends_with("does not accept the character U+FFFE: escape it in the message"),
                "{error}"
            );
            assert_eq!(broker.batches(), [1], "nothing is sent");
        }
    }
}

#[tokio::test]
async fn a_bus_that_does_not_exist_is_waited_for() {
    let broker = Broker::new(Service::EventBridge, |_, _| Act::Accept);
    broker.set_bus_exists(false);
    let publisher = broker.event_bridge();
    let error = publish_one(&publisher, envelope(&stream(0), 1, 9)).await.expect_err("there is no bus");
    assert!(error.is_transient(), "{error}");
    assert!(error.to_string().starts_with("the event bus `orders` does not exist: "), "{error}");
    assert!(broker.batches().is_empty(), "EventBridge would discard the event");

    broker.set_bus_exists(true);
    for version in 1..=3 {
        publish_one(&publisher, envelope(&stream(0), version, 9)).await.expect("is accepted");
    }
    assert_eq!(broker.checks(), 2, "the bus is checked once a minute");

    broker.set_bus_exists(false);
    let unchecked = broker.event_bridge().without_bus_check();
    publish_one(&unchecked, envelope(&stream(0), 4, 9)).await.expect("is accepted");
    assert_eq!(broker.checks(), 2);
}

#[tokio::test]
async fn an_event_name_that_event_bridge_would_discard_is_refused() {
    let broker = Broker::new(Service::EventBridge, |_, _| Act::Accept);
    let named = |name: String| {
        move |_: &es_core::event::EventData, ctx: &EventContext| {
            let event = es_core::event::EventData::new(name.clone(), 1, "{}");
            Ok::<_, es_core::BoxError>(Envelope::new(&event, ctx, "application/json", "{}"))
        }
    };
    let publisher = broker.event_bridge();
    let longest = envelope_of(&stream(0), 1, "{}", named("N".repeat(128)));
    publish_one(&publisher, longest).await.expect("is accepted");
    let too_long = envelope_of(&stream(0), 1, "{}", named("N".repeat(129)));
    let error = publish_one(&publisher, too_long).await.expect_err("is discarded");
    assert!(!error.is_transient(), "{error}");
    assert_eq!(error.to_string(), "the event name has 129 characters, and EventBridge accepts at most 128");
    assert_eq!(broker.batches(), [1]);
}
