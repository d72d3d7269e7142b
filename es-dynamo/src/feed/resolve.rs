//! Getting the commits at which references point.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use aws_sdk_dynamodb::types::{KeysAndAttributes, ReturnConsumedCapacity};
use es_core::store::{Commit, Read};
use es_core::{Cost, StoreError};
use futures_util::TryStreamExt;

use super::hint::Hint;
use super::reference::{CommitTag, Reference};
use crate::capacity;
use crate::error::translate;
use crate::item::{Attributes, Item, key};
use crate::names;
use crate::response::required;
use crate::store::Table;
use crate::transact::incomplete;

/// The most items that one request gets
/// ([limits](https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchGetItem.html)).
const MOST_KEYS: usize = 100;

/// How often the rest of an answer is asked for without getting any of it, and how long is waited at first.
const MOST_TRIES: u32 = 8;
const WAIT: Duration = Duration::from_millis(20);

/// The commits that were found.
pub(crate) struct Resolved {
    /// Those of the references up to the first whose commit is missing.
    pub(crate) commits: Vec<Commit>,
    /// Why that one is missing.
    pub(crate) missing: Option<String>,
    pub(crate) cost: Cost,
}

/// The items that were found, by their streams and first versions.
type Found = HashMap<(String, String), Item>;

impl Table {
    /// The commits, in the order of the references.
    pub(crate) async fn resolve<'a>(
        &self,
        references: impl Iterator<Item = &'a Reference>,
    ) -> Result<Resolved, StoreError> {
        let references: Vec<&Reference> = references.collect();
        let (mut found, mut cost) = self.find(references.iter().copied()).await?;
        let mut commits = Vec::with_capacity(references.len());
        for reference in references {
            match self.whole(reference, found.remove(&place(reference))).await? {
                Ok((commit, read)) => {
                    cost += read;
                    commits.push(commit);
                }
                Err(reason) => return Ok(Resolved { commits, missing: Some(reason), cost }),
            }
        }
        Ok(Resolved { commits, missing: None, cost })
    }

    /// Replaces hints at commits by what the table has in their places, so that nothing of them is believed.
    pub(crate) async fn verified(&self, hints: Vec<Hint>) -> Result<Vec<Hint>, StoreError> {
        let (found, _) = self.find(hints.iter().filter_map(Hint::commit)).await?;
        let verified = hints.into_iter().map(|hint| match hint {
            Hint::Commit(reference) | Hint::Part(reference) => match found.get(&place(&reference)) {
                Some(item) => Hint::at(reference.stream, item.clone()),
                None => Hint::UpTo(reference.stream, reference.last),
            },
            hint @ Hint::UpTo(..) => hint,
        });
        Ok(verified.collect())
    }

    /// Gets the items in the places of references, as many as there are.
    async fn find(&self, references: impl Iterator<Item = &Reference>) -> Result<(Found, Cost), StoreError> {
        let places: HashSet<_> = references.map(place).collect();
        let (mut found, mut cost) = (Found::new(), Cost::ZERO);
        // What a replica that is behind does not have is asked for again.
        for consistent in [false, true] {
            let missing: Vec<_> = places.iter().filter(|at| !found.contains_key(at)).cloned().collect();
            for places in missing.chunks(MOST_KEYS) {
                cost += self.get_all(places, consistent, &mut found).await?;
            }
        }
        Ok((found, cost))
    }

    /// Gets items, as many as there are.
    async fn get_all(
        &self,
        places: &[(String, String)],
        consistent: bool,
        found: &mut Found,
    ) -> Result<Cost, StoreError> {
        let mut keys: Vec<Item> = places.iter().map(|(stream, sort)| key(stream, sort)).collect();
        let (mut cost, mut tries) = (Cost::ZERO, 0);
        while !keys.is_empty() {
            let wanted = KeysAndAttributes::builder()
                .set_keys(Some(std::mem::take(&mut keys)))
                .consistent_read(consistent)
                .build()
                .map_err(incomplete)?;
            let output = self
                .client
                .batch_get_item()
                .request_items(&self.name, wanted)
                .return_consumed_capacity(ReturnConsumedCapacity::Total)
                .send()
                .await
                .map_err(|error| translate(&self.name, error))?;
            cost += capacity::of_reads(output.consumed_capacity());
            let items = required(output.responses, "Responses")?.remove(&self.name).unwrap_or_default();
            tries = if items.is_empty() { tries + 1 } else { 0 };
            for item in items {
                let text = |name| item.get(name).and_then(|value| value.as_s().ok()).cloned();
                if let (Some(stream), Some(sort)) = (text(names::PARTITION_KEY), text(names::SORT_KEY)) {
                    found.insert((stream, sort), item);
                }
            }
            let rest = required(output.unprocessed_keys, "UnprocessedKeys")?.remove(&self.name);
            keys = rest.map(|rest| rest.keys).unwrap_or_default();
            if tries >= MOST_TRIES && !keys.is_empty() {
                return Err(StoreError::Throttled("keys of a BatchGetItem stay unprocessed".into()));
            }
            if !keys.is_empty() {
                tokio::time::sleep(WAIT.mul_f64(fastrand::f64()) * (1 << tries)).await;
            }
        }
        Ok(cost)
    }

    /// The commit of which `item` is the first part: all of it, as a rule. Or why it is missing.
    async fn whole(
        &self,
        reference: &Reference,
        item: Option<Item>,
    ) -> Result<Result<(Commit, Cost), String>, StoreError> {
        let stream = &reference.stream;
        let Some(item) = item else { return Ok(Err("it is not in the table".to_owned())) };
        let part = match Attributes::of(stream, item).and_then(Attributes::part) {
            Err(error @ StoreError::Corrupt { .. }) => return Ok(Err(error.to_string())),
            part => part?,
        };
        let found = (part.whole.first, part.whole.last, CommitTag::of(part.whole.id));
        if found != (reference.first, reference.last, reference.tag) {
            let reason = format!(
                "the table has another commit there, {} of the events {} to {}, and not the one whose id ends with {}",
                part.whole.id, part.whole.first, part.whole.last, reference.tag
            );
            return Ok(Err(reason));
        }
        if part.commit.last() == part.whole.last {
            return Ok(Ok((part.commit, Cost::ZERO)));
        }
        let read = Read::all(stream.clone()).after(reference.first.previous()).until(reference.last);
        let (mut pages, mut cost) = (self.read(read), Cost::ZERO);
        loop {
            let page = match pages.try_next().await {
                Err(error @ StoreError::Corrupt { .. }) => return Ok(Err(error.to_string())),
                page => page?,
            };
            let Some(page) = page else { return Ok(Err("it is not in the table".to_owned())) };
            cost += page.cost;
            if let Some(commit) = page.commits.into_iter().next() {
                return Ok(Ok((commit, cost)));
            }
        }
    }
}

fn place(reference: &Reference) -> (String, String) {
    (reference.stream.as_str().to_owned(), names::commit_key(reference.first))
}
