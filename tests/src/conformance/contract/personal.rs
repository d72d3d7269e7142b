//! Personal data: never stored as a repository encodes it.

use std::sync::Arc;

use es_core::event::{Event, EventData};
use es_core::personal::Personal;
use es_core::snapshot::{Fingerprint, Snapshot};
use es_core::store::{Append, AppendError, Claim, ClaimChange, Read, WriteError, WriteSet};
use es_core::{EventStore, ExpectedVersion, StoreError, Version, event};

use crate::conformance::support::{new_commit, new_stream, read_all, time};

#[event]
struct Registered {
    customer: String,
    #[personal(subject = customer)]
    name: Personal<String>,
}

/// Returns an event with personal data, which is not sealed.
pub(crate) fn registered() -> EventData {
    let event = Registered { customer: "17".to_owned(), name: "Ann".to_owned().into() };
    event.to_data().expect("encoded")
}

const SHAPE: Fingerprint = Fingerprint::new(0xdead_beef_0000_0002);

/// A store without a keyring refuses it with an error that says how to set one up. A store with a keyring stores
/// another text.
pub async fn is_refused_unless_it_is_sealed(store: Arc<dyn EventStore>) {
    let stream = new_stream();
    let append = || Append::new(stream.clone(), ExpectedVersion::NoStream, new_commit(vec![registered()]));
    match store.append(&append()).await {
        Err(AppendError::Store(StoreError::Setup { reason, .. })) => {
            assert!(reason.contains("SealedStore::new"), "{reason}");
            let set = WriteSet::new().append(append());
            assert!(matches!(store.write(&set).await, Err(WriteError::Store(StoreError::Setup { .. }))));
            let claim = Claim::personal("email", "ann@example.com").expect("valid");
            let take = ClaimChange::Take { stream: stream.clone(), claim: claim.clone() };
            let plain = new_commit(vec![EventData::new("Noted", 1, "{}")]);
            let set = WriteSet::new().append(Append::new(stream.clone(), ExpectedVersion::NoStream, plain));
            let written = store.write(&set.claims([take])).await;
            assert!(matches!(written, Err(WriteError::Store(StoreError::Setup { .. }))));
            assert!(store.claim_holder(&claim).await.is_err());
            assert_eq!(read_all(&*store, Read::all(stream.clone())).await.commits, [], "nothing was stored");
            let state = registered().payload().to_owned();
            let snapshot = Snapshot::new(Version::new(1), time(0), SHAPE, state);
            assert!(store.write_snapshot(&stream, &snapshot, None).await.is_err());
        }
        Ok(_) => {
            let append = append();
            store.append(&append).await.expect_err("the stream exists");
            let found = read_all(&*store, Read::all(stream.clone())).await.commits;
            assert_ne!(found[0].events[0].payload(), append.commits()[0].events[0].payload());
        }
        other => panic!("expected an error of the setup, got {other:?}"),
    }
}
