//! The check: compares the raw table, and everything derived from it, with the journals.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::path::Path;

use es_core::feed::{Feed, FeedRead, Position, Slice};
use es_core::projection::{Progress, ProjectorError};
use es_core::{BoxError, Repository, error_text};
use es_dynamo::{DynamoStore, Reconciler};
use es_postgres::PostgresStore;
use es_postgres::sqlx;

use crate::broker;
use crate::domain::{Account as _, Release, Total, bonus_account, digest, earns_bonus, new};
use crate::journal::{Attempted, Journals, Load, Part, Told};
use crate::store::Store;
use crate::table::Table;
use crate::worker::Workers;

/// The numbers of a run.
#[derive(Debug, Default)]
pub(crate) struct Report {
    accepted: u64,
    refused: u64,
    unknown: u64,
    unknown_but_recorded: u64,
    loads: usize,
    events: u64,
    bonuses: u64,
    projected: u64,
    published: u64,
    /// The deposits in the ledger, if there is one.
    booked: Option<u64>,
}

impl Report {
    /// Checks that a run did enough to prove something: without work, no promise can be broken.
    ///
    /// # Errors
    ///
    /// Names the number that is too small for a run of `seconds`. An idle machine reaches more than tenfold.
    pub(crate) fn check_work(&self, seconds: u64) -> Result<(), String> {
        let at_least = [
            ("commands were accepted", self.accepted, seconds),
            ("states were loaded", self.loads as u64, 1),
            ("events were projected", self.projected, seconds),
            ("events were published", self.published, seconds),
            ("bonuses were granted", self.bonuses, seconds.div_ceil(10)),
            ("deposits were booked", self.booked.unwrap_or(u64::MAX), seconds),
        ];
        match at_least.into_iter().find(|(_, count, least)| count < least) {
            None => Ok(()),
            Some((what, count, least)) => Err(format!(
                "the run did too little to prove anything: {count} {what}, expected at least {least}"
            )),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            accepted,
            refused,
            unknown,
            unknown_but_recorded,
            loads,
            events,
            bonuses,
            projected,
            published,
            booked,
        } = self;
        write!(
            f,
            "{accepted} commands accepted, {refused} refused, {unknown} with an unknown outcome, of which \
             {unknown_but_recorded} are recorded; {loads} loads, {events} events, {bonuses} bonuses, {projected} \
             deposits projected, {published} events published"
        )?;
        match booked {
            Some(booked) => write!(f, ", {booked} deposits booked"),
            None => Ok(()),
        }
    }
}

/// The reason why a run has not passed.
#[derive(Debug)]
pub(crate) enum Problem {
    /// Some work is still pending.
    Unfinished(String),
    /// A promise is broken.
    Violation(String),
}

use Problem::{Unfinished, Violation};

/// Checks the result of a run.
pub(crate) async fn check(
    store: &Store,
    workers: &Workers<new::Code>,
    journals: &Journals,
    published: &Path,
) -> Result<Result<Report, Problem>, BoxError> {
    // First, because everything else takes longer, and would slow the workers down.
    for (name, progress) in workers.progress().await {
        if let Err(problem) = check_progress(name, progress) {
            return Ok(Err(problem));
        }
    }
    // The workers still run. Derived data is read first, so that the table contains the events it is derived from.
    let published = broker::published(published)?;
    let rows = new::Code::totals(&store.feed()).rows.all().await?;
    let ledger = match store.postgres() {
        Some(store) => Some(Ledger::read(store).await?),
        None => None,
    };
    let table = Table::scan(store).await?;
    Ok(async {
        let mut report = Report { loads: journals.loads.len(), ..Report::default() };
        report.events = check_streams(&table)?;
        let notes = Notes::of(&table);
        for attempted in &journals.attempted {
            check_attempted(attempted, &notes, &mut report)?;
        }
        notes.check_known(&journals.attempted)?;
        check_loads(&table, &journals.loads)?;
        check_handles(&table)?;
        check_states(store, &table).await?;
        report.bonuses = check_bonuses(&table, &notes)?;
        match store {
            Store::Dynamo(store) => audit_feed(store).await?,
            Store::Postgres(store) => check_feed(store, &table).await?,
        }
        report.projected = check_totals(&table, rows)?;
        if let Some(ledger) = ledger {
            report.booked = Some(ledger.check(&table)?);
        }
        report.published = check_published(&table, &published)?;
        Ok(report)
    }
    .await)
}

/// Checks that the versions of each stream are contiguous and its commits differ. Returns the number of events.
fn check_streams(table: &Table) -> Result<u64, Problem> {
    let mut events = 0;
    for (stream, commits) in &table.streams {
        let mut last = 0;
        let mut ids = HashSet::new();
        for commit in commits {
            if commit.first != last + 1 || commit.last + 1 - commit.first != commit.events.len() as u64 {
                return Err(Violation(format!("{stream}: version {} follows {last}", commit.first)));
            }
            if !ids.insert(&commit.id) {
                return Err(Violation(format!("{stream}: the commit {} is stored twice", commit.id)));
            }
            last = commit.last;
        }
        events += last;
    }
    Ok(events)
}

/// The commits that contain a note, by account and note.
struct Notes<'a>(HashMap<&'a str, HashMap<&'a str, Vec<Place<'a>>>>);

/// The id and the last version of a commit.
type Place<'a> = (&'a str, u64);

impl<'a> Notes<'a> {
    fn of(table: &'a Table) -> Self {
        let mut accounts = HashMap::new();
        for account in table.accounts() {
            let notes: &mut HashMap<_, Vec<_>> = accounts.entry(account).or_default();
            for (commit, event) in table.events(&format!("account#{account}")) {
                notes.entry(event.text("note")).or_default().push((&*commit.id, commit.last));
            }
        }
        Self(accounts)
    }

    fn commits(&self, account: &str, note: &str) -> &[Place<'a>] {
        self.0.get(account).and_then(|notes| notes.get(note)).map_or(&[], Vec::as_slice)
    }

    /// Checks that each note was written by a command, or by the process that grants bonuses.
    fn check_known(&self, attempted: &[Attempted]) -> Result<(), Problem> {
        let parts = attempted.iter().flat_map(|attempted| &attempted.parts);
        let known: HashSet<(&str, &str)> = parts
            .flat_map(|Part { account, notes }| notes.iter().map(|note| (account.as_str(), note.as_str())))
            .collect();
        let all = self.0.iter().flat_map(|(account, notes)| notes.keys().map(move |note| (*account, *note)));
        for (account, note) in all {
            let is_known = match account.strip_prefix("bonus-") {
                Some(shared) => known.contains(&(shared, note)) && earns_bonus(shared, note),
                None => known.contains(&(account, note)),
            };
            if !is_known {
                return Err(Violation(format!("{account} has {note}, which no command has written")));
            }
        }
        Ok(())
    }
}

/// Checks one command against its reported outcome.
fn check_attempted(attempted: &Attempted, notes: &Notes<'_>, report: &mut Report) -> Result<(), Problem> {
    let places = attempted.parts.iter().flat_map(|Part { account, notes: all }| {
        all.iter().map(move |note| (account.as_str(), notes.commits(account, note)))
    });
    let places: Vec<_> = places.collect();
    let all_once = places.iter().all(|(_, commits)| commits.len() == 1);
    let none = places.iter().all(|(_, commits)| commits.is_empty());
    let (holds, expected) = match &attempted.told {
        Told::Accepted(told) => {
            report.accepted += 1;
            let as_told = places.iter().all(|(account, commits)| {
                let told = told.iter().find(|recorded| recorded.account == *account);
                match (told, commits) {
                    (Some(told), [(commit, last)]) => told.commit == *commit && told.last == *last,
                    (None, []) => true,
                    _ => false,
                }
            });
            (as_told, "accepted, and has to be recorded once, as it was told")
        }
        Told::Refused => {
            report.refused += 1;
            (none, "reported as not recorded")
        }
        Told::Unknown => {
            report.unknown += 1;
            report.unknown_but_recorded += u64::from(all_once && !places.is_empty());
            (
                all_once || none,
                "has an unknown outcome, and has to be recorded as a whole and once, or not at all",
            )
        }
    };
    match holds {
        true => Ok(()),
        false => Err(Violation(format!("a command {expected}: {attempted:?}, recorded at {places:?}"))),
    }
}

/// Checks that each loaded state is the fold of the events up to its version.
fn check_loads(table: &Table, loads: &[Load]) -> Result<(), Problem> {
    let mut states = BTreeMap::new();
    for account in table.accounts() {
        states.insert(account, table.states(account).map_err(Violation)?);
    }
    for load in loads.iter().filter(|load| load.version > 0) {
        let state = states.get(load.account.as_str()).and_then(|states| states.get(load.version as usize));
        if state != Some(&load.state) {
            return Err(Violation(format!("{load:?} was loaded, the events lead to {state:?}")));
        }
    }
    Ok(())
}

/// Checks that a new process, which uses snapshots, loads the fold of the events.
async fn check_states(store: &Store, table: &Table) -> Result<(), Problem> {
    let accounts: Repository<new::Account> = Repository::new(store.feed());
    for account in table.accounts() {
        let states = table.states(account).map_err(Violation)?;
        let loaded = accounts.load(&account.to_owned()).await;
        let loaded = loaded.map_err(|error| Unfinished(error_text(&error)))?;
        let Some(expected) = states.get(loaded.version.get() as usize) else {
            return Err(Unfinished(format!("{account} grows")));
        };
        if loaded.state.summary() != expected {
            return Err(Violation(format!("{account}: {loaded:?} was loaded, not {expected:?}")));
        }
    }
    Ok(())
}

/// Checks that each handle is held by the one account that took it last.
fn check_handles(table: &Table) -> Result<(), Problem> {
    let mut holders = HashMap::new();
    for account in table.accounts() {
        let stream = format!("account#{account}");
        let taken = table.events(&stream).filter(|(_, event)| event.name == "HandleTaken").last();
        if let Some((_, taken)) = taken {
            let handle = taken.text("handle").to_owned();
            if let Some(other) = holders.insert(handle.clone(), stream.clone()) {
                return Err(Violation(format!("{stream} and {other} both have {handle}")));
            }
        }
    }
    match holders == table.holders {
        true => Ok(()),
        false => Err(Violation(format!("the claims are {:?}, the events say {holders:?}", table.holders))),
    }
}

/// Checks that each deposit that earns a bonus led to exactly one bonus and one confirmation.
fn check_bonuses(table: &Table, notes: &Notes<'_>) -> Result<u64, Problem> {
    let mut counts: HashMap<(&str, &str, &str), usize> = HashMap::new();
    for (stream, commits) in &table.streams {
        let Some(account) = stream.strip_prefix("bonuses#") else { continue };
        for event in commits.iter().flat_map(|commit| &commit.events) {
            *counts.entry((account, &event.name, event.text("note"))).or_default() += 1;
        }
    }
    let mut earned = 0;
    for account in table.accounts() {
        for deposit in table.deposits(account) {
            let note = deposit.text("note");
            if !earns_bonus(account, note) {
                continue;
            }
            earned += 1;
            let count = |event| counts.get(&(account, event, note)).copied().unwrap_or(0);
            let paid = notes.commits(&bonus_account(account), note).len();
            let (granted, confirmed) = (count("Granted"), count("Confirmed"));
            let what =
                format!("{account}, {note}: paid {paid}, granted {granted}, confirmed {confirmed} times");
            match (paid, granted, confirmed) {
                (1, 1, 1) => {}
                (0 | 1, 0 | 1, 0 | 1) => return Err(Unfinished(what)),
                _ => return Err(Violation(what)),
            }
        }
    }
    Ok(earned)
}

/// Checks that all events are handled. Transient faults must not stop a slice. An event that the old release cannot
/// read does, until a process of the new release takes over.
fn check_progress(name: &str, progress: Result<Progress, ProjectorError>) -> Result<(), Problem> {
    let progress = progress.map_err(|error| Unfinished(error_text(&error)))?;
    if progress.slices.iter().any(|slice| slice.parked > 0 || slice.skipped > 0) {
        return Err(Violation(format!("{name} has passed over events: {progress:?}")));
    }
    if let Some((slice, failure)) = progress.stopped().next() {
        return Err(Unfinished(format!("{name} has stopped in slice {slice}: {failure:?}")));
    }
    match progress.lag() {
        0 => Ok(()),
        lag => Err(Unfinished(format!("{name} has {lag} events to handle: {progress:?}"))),
    }
}

/// Checks that the feed on PostgreSQL contains every event once and in order, with dense positions.
async fn check_feed(store: &PostgresStore, table: &Table) -> Result<(), Problem> {
    let (mut ends, mut read) = (HashMap::new(), FeedRead::new(Slice::new(0), Position::NONE).limit(1_000));
    loop {
        let page = store.read_feed(&read).await.map_err(|error| Unfinished(error_text(&error)))?;
        let mut position = read.after;
        for entry in &page.entries {
            let (stream, commit) = (entry.stream.as_str(), &entry.commit);
            let end = ends.insert(stream.to_owned(), commit.last().get()).unwrap_or(0);
            if entry.position != position.next() || commit.first.get() != end + 1 {
                return Err(Violation(format!(
                    "the feed has {stream} from version {} at {}, after version {end} and position {position}",
                    commit.first, entry.position
                )));
            }
            position = entry.last();
        }
        (read.after, read.anchor) = (page.through, page.anchor);
        if page.is_last {
            break;
        }
    }
    for (stream, commits) in &table.streams {
        let last = commits.last().map_or(0, |commit| commit.last);
        let found = ends.get(stream).copied().unwrap_or(0);
        if found < last {
            return Err(Unfinished(format!("{stream}: the feed ends at version {found} of {last}")));
        }
    }
    Ok(())
}

/// The tables of the ledger.
struct Ledger {
    deposits: Vec<(String, String)>,
    balances: HashMap<String, i64>,
}

impl Ledger {
    async fn read(store: &PostgresStore) -> Result<Self, BoxError> {
        let ledger = new::Code::ledger(store);
        let mut tables = ledger.tables.read().await?;
        let deposits = sqlx::query_as("SELECT account, note FROM deposits ORDER BY n");
        let deposits = deposits.fetch_all(&mut *tables).await?;
        let balances = sqlx::query_as("SELECT account, cents FROM balances").fetch_all(&mut *tables).await?;
        Ok(Self { deposits, balances: balances.into_iter().collect() })
    }

    /// Checks that every deposit is booked once and in order. Returns the number of deposits.
    fn check(mut self, table: &Table) -> Result<u64, Problem> {
        let mut booked: HashMap<String, Vec<String>> = HashMap::new();
        for (account, note) in self.deposits {
            booked.entry(account).or_default().push(note);
        }
        let mut total = 0;
        for account in table.accounts() {
            let expected: Vec<_> = table.deposits(account).map(|event| event.text("note")).collect();
            let found = booked.remove(account).unwrap_or_default();
            let balance = self.balances.remove(account).unwrap_or(0);
            if !expected.iter().zip(&found).all(|(expected, found)| expected == found)
                || found.len() > expected.len()
                || balance != found.len() as i64
            {
                return Err(Violation(format!(
                    "{account}: {balance} cents and the deposits {found:?} are booked, the events are {expected:?}"
                )));
            }
            if found.len() < expected.len() {
                return Err(Unfinished(format!(
                    "{account}: {} of {} deposits are booked",
                    found.len(),
                    expected.len()
                )));
            }
            total += expected.len() as u64;
        }
        match booked.is_empty() && self.balances.is_empty() {
            true => Ok(total),
            false => {
                Err(Violation(format!("deposits of accounts that have no events are booked: {booked:?}")))
            }
        }
    }
}

/// Checks that the feed on DynamoDB contains every event once and in order.
async fn audit_feed(store: &DynamoStore) -> Result<(), Problem> {
    let audit = Reconciler::builder(store).build().audit().await;
    let mut audit = audit.map_err(|error| Unfinished(error_text(&error)))?;
    let missing = std::mem::take(&mut audit.missing);
    if !audit.is_sound() || audit.foreign_items > 0 {
        return Err(Violation(format!("the feed differs from the table: {audit:?}")));
    }
    match missing.is_empty() {
        true => Ok(()),
        false => Err(Unfinished(format!("not indexed: {missing:?}"))),
    }
}

/// Checks that the rows are the fold of the events; returns the number of deposits in them.
fn check_totals(table: &Table, rows: Vec<Total>) -> Result<u64, Problem> {
    let mut projected = 0;
    let mut rows: HashMap<_, _> = rows.into_iter().map(|row| (row.account.clone(), row)).collect();
    for account in table.accounts() {
        let row = rows.remove(account);
        let found = row.map_or((0, 0, 0), |row| (row.deposits, row.cents, row.digest));
        // The digest of as many deposits as the row claims to contain, in order.
        let mut expected = (0, 0, 0);
        for deposit in table.deposits(account).take(found.0 as usize) {
            expected = (expected.0 + 1, expected.1 + 1, digest(expected.2, deposit.text("note")));
        }
        if found != expected {
            return Err(Violation(format!(
                "{account}: the row has {found:?}, the events lead to {expected:?}"
            )));
        }
        let deposits = table.deposits(account).count() as u64;
        if found.0 < deposits {
            return Err(Unfinished(format!("{account}: {} of {deposits} deposits are in the row", found.0)));
        }
        projected += deposits;
    }
    match rows.is_empty() {
        true => Ok(projected),
        false => Err(Violation(format!("rows of accounts that have no events: {rows:?}"))),
    }
}

/// Checks that every event was published. [`broker::published`] has checked the order.
///
/// Returns the number of published events.
fn check_published(table: &Table, published: &HashMap<String, u64>) -> Result<u64, Problem> {
    for (stream, commits) in &table.streams {
        let last = commits.last().map_or(0, |commit| commit.last);
        let found = published.get(stream).copied().unwrap_or(0);
        if found > last {
            return Err(Violation(format!("{stream} ends at version {last}, and {found} was published")));
        }
        if found < last {
            return Err(Unfinished(format!("{stream}: published up to {found} of {last}")));
        }
    }
    match published.keys().find(|stream| !table.streams.contains_key(*stream)) {
        Some(stream) => Err(Violation(format!("{stream} was published, and does not exist"))),
        None => Ok(published.values().sum()),
    }
}
