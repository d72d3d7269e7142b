//! Payload stores: the conformance suite on a directory, faults, and damage.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use es_core::bytes::Bytes;
use es_core::payloads::{
    DirectoryPayloads, MemoryPayloads, PayloadError, PayloadName, PayloadPrefix, PayloadStore,
};
use es_core::testing::{Faults, FaultyPayloads};
use futures_util::TryStreamExt;

es_tests::payloads_conformance!(Arc::new(DirectoryPayloads::new(&*ROOT)));

/// The directory of all tests in this module. The objects of an earlier run are deleted.
static ROOT: LazyLock<PathBuf> = LazyLock::new(|| {
    let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join("payloads");
    let _ = fs::remove_dir_all(&root);
    root
});

/// Returns the name of an object. Each test uses another `purpose`.
fn name_of(purpose: &str, content: &str) -> PayloadName {
    let prefix = PayloadPrefix::new(&format!("tests/{purpose}")).expect("valid");
    PayloadName::of(prefix, content.as_bytes())
}

#[tokio::test]
async fn a_damaged_file_is_never_taken_for_the_object() {
    let payloads = DirectoryPayloads::new(&*ROOT);
    let name = name_of("damage", "content");
    payloads.put(&name, "content".into()).await.expect("stores");
    let file = ROOT.join(name.to_string());
    for damage in ["", "conten", "Content"] {
        fs::write(&file, damage).expect("writes");
        let read = payloads.get(&name).await.and_then(|content| name.verified(content));
        let stored = payloads.put(&name, "content".into()).await;
        for error in [read.expect_err("is damaged"), stored.expect_err("is damaged")] {
            assert!(matches!(&error, PayloadError::Corrupt { .. }), "{damage:?}: {error:?}");
            assert!(error.to_string().contains(&name.to_string()), "{error}");
        }
        assert_eq!(fs::read_to_string(&file).expect("reads"), damage, "nothing is overwritten");
    }
    payloads.delete(&name).await.expect("deletes");
    payloads.put(&name, "content".into()).await.expect("stores");
}

#[tokio::test]
async fn other_files_are_not_objects() {
    let payloads = DirectoryPayloads::new(&*ROOT);
    let name = name_of("files", "content");
    payloads.put(&name, "content".into()).await.expect("stores");
    let folder = ROOT.join(name.prefix().as_str());
    fs::write(folder.join("README"), "content").expect("writes");
    fs::create_dir_all(folder.join("folder")).expect("creates");
    let listed: Vec<_> = payloads.list(name.prefix()).try_collect().await.expect("lists");
    assert_eq!(listed.into_iter().map(|object| object.name).collect::<Vec<_>>(), [name]);
}

#[tokio::test]
async fn a_directory_that_cannot_be_used_is_reported() {
    let file = ROOT.join("a-file");
    fs::create_dir_all(&*ROOT).expect("creates");
    fs::write(&file, "").expect("writes");
    let name = name_of("setup", "content");
    let error = DirectoryPayloads::new(&file).put(&name, "content".into()).await.expect_err("is a file");
    assert!(matches!(&error, PayloadError::Setup { .. }), "{error:?}");
    assert!(error.to_string().contains("a-file"), "{error}");
    assert!(!error.is_retryable());
}

/// Requests and responses are lost: an acknowledged object is there, and a repetition succeeds.
#[tokio::test]
async fn acknowledged_objects_survive_lost_requests_and_responses() {
    let memory = MemoryPayloads::new();
    let faults = Faults::seeded(11).lost_requests(0.2).lost_answers(0.2).throttling(0.1).stalls(0.05);
    let faulty = FaultyPayloads::new(memory.clone(), faults.clone());
    for n in 0..200 {
        let content = format!("content {n}");
        let name = name_of("faults", &content);
        while let Err(error) = faulty.put(&name, Bytes::from(content.clone())).await {
            assert!(error.is_retryable(), "{error:?}");
        }
        assert_eq!(memory.get(&name).await.expect("is there"), content);
    }
    assert!(faults.injected() > 100, "only {} faults", faults.injected());
    assert_eq!(memory.names().len(), 200);
}
