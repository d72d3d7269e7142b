//! The order of each stream is preserved under all failures.

use chrono::DateTime;
use futures_executor::block_on;

use super::{Unreliable, envelope, stream};
use crate::clock::ManualClock;
use crate::publish::{BatchLimits, Outbox, Publisher};
use crate::repository::RetryPolicy;

#[test]
fn nothing_is_lost_or_out_of_order_or_repeated_without_need() {
    let clock = ManualClock::at(DateTime::UNIX_EPOCH);
    let mut failures = 0;
    for seed in 0..4000 {
        let broker = Unreliable::seeded(seed, 0.5);
        let mut random = fastrand::Rng::with_seed(!seed);
        let mut versions = vec![0; random.usize(1..8)];
        let mut outbox = Outbox::new();
        for _ in 0..random.usize(1..60) {
            let number = random.usize(0..versions.len());
            versions[number] += 1;
            let payload = format!("\"{}\"", "x".repeat(random.usize(0..600)));
            outbox
                .push(envelope(&stream(number), versions[number], &payload), &broker)
                .expect("is not too large");
            if random.u8(0..10) == 0 {
                let sent = block_on(outbox.send(&broker, RetryPolicy::never(), &clock));
                failures += usize::from(sent.is_err());
            }
        }
        let patient = RetryPolicy::default().with_max_attempts(1000);
        block_on(outbox.send(&broker, patient, &clock)).expect("is accepted in the end");
        assert!(outbox.envelopes().is_empty());

        let published = broker.published();
        for (number, last) in versions.into_iter().enumerate().filter(|(_, last)| *last > 0) {
            let accepted = &published[stream(number).as_str()];
            assert!(accepted.iter().copied().eq(1..=last), "seed {seed}, stream {number}: {accepted:?}");
        }
    }
    assert!(failures > 1000, "{failures} failures are too few to tell");
}

#[test]
fn what_did_not_fail_is_sent_in_as_few_batches_as_the_longest_stream_needs() {
    let broker = Unreliable::reliable();
    let mut outbox = Outbox::new();
    for version in 1..=3 {
        for number in 0..30 {
            outbox.push(envelope(&stream(number), version, "1"), &broker).expect("is not too large");
        }
    }
    block_on(outbox.send_once(&broker)).expect("is accepted");
    assert_eq!(broker.batches(), 3);
}

#[test]
fn a_stream_whose_event_is_refused_for_good_holds_up_no_other() {
    /// Rejects the envelopes of one stream.
    #[derive(Debug)]
    struct Picky(Unreliable);

    #[async_trait::async_trait]
    impl Publisher for Picky {
        fn limits(&self) -> BatchLimits {
            BatchLimits::default()
        }

        async fn publish(
            &self,
            batch: &[crate::publish::Envelope],
        ) -> Result<Vec<Result<(), crate::publish::PublishError>>, crate::publish::PublishError> {
            let mut outcomes = Vec::new();
            for envelope in batch {
                outcomes.push(if envelope.stream() == &stream(0) {
                    Err(crate::publish::PublishError::permanent("not this one"))
                } else {
                    self.0.publish(std::slice::from_ref(envelope)).await?.remove(0)
                });
            }
            Ok(outcomes)
        }
    }

    let broker = Picky(Unreliable::reliable());
    let clock = ManualClock::at(DateTime::UNIX_EPOCH);
    let mut outbox = Outbox::new();
    for version in 1..=2 {
        for number in 0..3 {
            outbox.push(envelope(&stream(number), version, "1"), &broker).expect("is not too large");
        }
    }
    let error = block_on(outbox.send(&broker, RetryPolicy::default(), &clock)).expect_err("is refused");
    assert_eq!(
        error.to_string(),
        "the event `Counted` at version 1 of `order#0` was not published: not this one"
    );
    assert_eq!(outbox.envelopes().len(), 2);
    assert_eq!(broker.0.published().into_values().collect::<Vec<_>>(), [[1, 2], [1, 2]]);
    assert_eq!(clock_moved(&clock), 0, "it is not tried again");
}

fn clock_moved(clock: &ManualClock) -> i64 {
    use crate::clock::Clock;
    clock.now().timestamp_millis()
}

#[test]
fn an_event_that_is_too_large_is_named_with_its_size_and_the_limit() {
    let broker = Unreliable::reliable().limits(BatchLimits::default().envelope_bytes(100));
    let envelope = envelope(&stream(7), 3, "\"secret\"");
    let bytes = envelope.body().len();
    let error = Outbox::new().push(envelope, &broker).expect_err("is too large").to_string();
    assert_eq!(
        error,
        format!(
            "the event `Counted` at version 3 of `order#7` was not published: its message has {bytes} bytes, \
             and the broker accepts at most 100"
        )
    );
}
