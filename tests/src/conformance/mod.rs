//! The rules, and the macros that generate a test for each.

pub mod contract;
pub mod documents;
pub mod feed;
pub mod keyring;
pub mod large_events;
pub mod payloads;
pub mod repository;
pub mod splits;
mod support;

pub use support::{Pattern, events, new_commit, new_stream, read_all, time};

/// Generates a `#[tokio::test]` for each rule of event stores and of repositories.
///
/// The expression is evaluated for each test, in an async context, and returns an `Arc<dyn EventStore>`. Each rule uses
/// separate streams, so the tests may share a store.
///
/// Attributes in brackets before the expression, such as `[#[ignore]]`, apply to all tests.
#[macro_export]
macro_rules! conformance {
    ([$(#[$attribute:meta])*] $store:expr) => {
        $crate::conformance!(@rules [$(#[$attribute])*] $store, contract, append:
            a_commit_reads_back_as_it_was_written,
            payloads_of_every_json_shape_survive,
            events_without_a_name_or_a_version_are_refused,
            metadata_is_stored_only_if_it_can_be_read_back,
            payloads_of_300_kilobytes_survive,
            commits_of_many_events_are_stored_whole,
            an_empty_commit_is_refused,
            ids_of_any_text_are_kept_apart,
        );
        $crate::conformance!(@rules [$(#[$attribute])*] $store, contract, expected:
            any_takes_every_stream,
            no_stream_takes_only_a_new_one,
            stream_exists_takes_only_an_existing_one,
            exact_takes_only_the_last_version,
            exact_refuses_a_gap,
            exact_refuses_a_version_inside_a_commit,
            exact_refuses_a_stream_that_does_not_exist,
            a_refused_append_leaves_nothing,
        );
        $crate::conformance!(@rules [$(#[$attribute])*] $store, contract, group:
            commits_read_back_as_they_were_written,
            a_read_starts_and_ends_at_every_commit,
            a_snapshot_is_used_after_every_commit,
            a_conflict_contains_all_commits,
            a_version_inside_an_append_is_refused,
            a_repeated_append_is_stored_once,
            other_commits_under_one_id_are_an_error,
            of_many_appends_from_one_version_one_wins,
            a_stream_over_1_megabyte_is_read_whole,
            appends_have_limits,
        );
        $crate::conformance!(@rules [$(#[$attribute])*] $store, contract, large:
            are_read_back_as_one_commit,
            are_atomic_and_repeatable,
            collide_with_others_from_the_same_version,
            follow_a_snapshot,
            have_limits,
        );
        $crate::conformance!(@rules [$(#[$attribute])*] $store, contract, race:
            writers_from_one_version_with_commits_of_different_lengths,
            a_conflict_contains_the_winner,
            of_many_writers_from_one_version_one_wins,
            appends_at_any_version_all_succeed,
        );
        $crate::conformance!(@rules [$(#[$attribute])*] $store, contract, repetition:
            a_repeated_commit_is_stored_once,
            a_repeated_commit_is_found_behind_later_ones,
            one_commit_id_in_two_streams_is_two_commits,
        );
        $crate::conformance!(@rules [$(#[$attribute])*] $store, contract, read:
            a_stream_that_does_not_exist_is_one_empty_page,
            after_and_until_bound_a_read,
            head_is_the_last_version,
            a_stream_over_1_megabyte_is_read_whole,
            a_stream_over_10_megabytes_is_read_whole,
        );
        $crate::conformance!(@rules [$(#[$attribute])*] $store, contract, snapshot:
            a_read_starts_from_a_snapshot_at_every_boundary,
            a_snapshot_is_overwritten_only_by_a_higher_version,
            an_unusable_snapshot_can_be_replaced,
            a_snapshot_that_does_not_fit_is_ignored,
            a_snapshot_of_another_history_is_ignored,
            a_tail_longer_than_expected_is_read_whole,
            a_known_version_of_a_snapshot_changes_nothing,
            a_snapshot_in_a_stream_over_1_megabyte,
        );
        $crate::conformance!(@rules [$(#[$attribute])*] $store, contract, write:
            several_streams_are_written_as_one,
            a_set_with_a_conflict_writes_nothing,
            a_stream_that_has_gone_on_stops_a_set,
            a_repeated_set_is_written_once,
            a_set_may_hold_large_commits,
            unsound_sets_are_refused,
            of_many_sets_from_one_version_one_wins,
        );
        $crate::conformance!(@rules [$(#[$attribute])*] $store, contract, claim:
            is_held_by_one_stream,
            moves_within_a_set,
            that_is_taken_stops_the_whole_set,
            goes_to_one_of_many,
            of_any_text_is_kept_apart,
        );
        $crate::conformance!(@rules [$(#[$attribute])*] $store, contract, once:
            a_second_set_under_a_key_writes_nothing,
            keys_of_any_text_are_kept_apart,
            a_marker_expires,
            what_was_done_comes_before_conflicts_and_claims,
            of_many_sets_under_one_key_one_wins,
        );
        $crate::conformance!(@rules [$(#[$attribute])*] $store, contract, personal:
            is_refused_unless_it_is_sealed,
        );
        $crate::conformance!(@rules [$(#[$attribute])*] $store, contract, closing:
            a_closed_stream_accepts_no_commits,
            closing_is_idempotent,
            names_of_the_framework_are_reserved,
            of_a_commit_and_the_end_one_wins,
            erasing_needs_a_deleted_stream,
            an_erased_stream_keeps_its_versions,
        );
        $crate::conformance!(@rules [$(#[$attribute])*] $store, contract, archiving:
            an_archived_stream_comes_back_as_it_was,
            payloads_of_any_content_are_archived,
            an_archived_stream_can_be_deleted,
            states_follow_each_other,
            a_delayed_erasure_has_no_effect,
            a_delayed_restore_brings_nothing_back,
            restoring_is_checked,
        );
        $crate::conformance!(@rules [$(#[$attribute])*] $store, repository, archives:
            an_archived_aggregate_is_restored,
            only_a_closed_aggregate_is_archived,
            an_archive_is_deleted_with_its_aggregate,
            an_archive_is_not_deleted_in_another_payload_store,
            a_damaged_archive_changes_nothing,
            operations_at_the_same_time_lose_nothing,
        );
        $crate::conformance!(@rules [$(#[$attribute])*] $store, repository, lifecycle:
            a_closed_aggregate_accepts_no_commands,
            an_unknown_aggregate_is_not_closed,
            a_repeated_command_returns_its_first_outcome,
            a_stale_state_learns_of_the_end,
            snapshots_do_not_hide_the_end,
            commands_that_race_with_the_end_come_before_it,
            a_deleted_aggregate_is_gone,
            a_closed_aggregate_can_be_deleted,
            commands_that_race_with_deletion_leave_nothing,
        );
        $crate::conformance!(@rules [$(#[$attribute])*] $store, repository, commands:
            a_command_is_loaded_decided_and_recorded,
            a_rejected_command_records_nothing,
            a_command_with_nothing_to_do_records_nothing,
            a_decision_may_be_async,
            what_cannot_be_read_back_is_not_stored,
            metadata_is_recorded,
            metadata_comes_from_where_it_is_told,
            times_in_a_stream_never_run_backwards,
            futures_of_commands_can_be_spawned,
        );
        $crate::conformance!(@rules [$(#[$attribute])*] $store, repository, creation:
            takes_one_request,
            of_an_existing_aggregate_fails,
            rejections_are_verified,
            under_a_key_is_repeated,
            by_many_at_once_succeeds_once,
            keeps_the_other_options,
            in_a_transaction_reads_the_others_only,
        );
        $crate::conformance!(@rules [$(#[$attribute])*] $store, repository, past:
            load_at_is_the_state_at_every_version,
            load_as_of_is_the_state_at_a_time,
            history_tells_every_event,
            exists_is_known_without_loading,
        );
        $crate::conformance!(@rules [$(#[$attribute])*] $store, repository, snapshots:
            snapshot_and_tail_equal_the_full_replay_at_every_boundary,
            snapshots_that_cannot_be_used_change_nothing,
            a_snapshot_of_another_shape_is_replaced_in_time,
            adaptive_snapshots_follow_the_size_of_the_events,
        );
        $crate::conformance!(@rules [$(#[$attribute])*] $store, repository, cache:
            a_warm_command_is_one_request,
            a_stale_state_that_accepts_is_found_by_the_write,
            a_stale_state_that_rejects_is_checked,
            a_stale_state_with_nothing_to_do_is_checked,
            a_load_sees_what_others_recorded,
            a_small_cache_changes_nothing,
        );
        $crate::conformance!(@rules [$(#[$attribute])*] $store, repository, damage:
            an_unknown_event_stops_the_load_and_is_named,
            a_malformed_event_stops_the_load_and_is_not_quoted,
            a_winner_that_cannot_be_decoded_stops_the_command,
            a_retired_event_is_skipped,
        );
        $crate::conformance!(@rules [$(#[$attribute])*] $store, repository, groups:
            the_past_is_the_same,
            snapshots_inside_change_nothing,
            a_lost_race_follows_all_commits,
        );
        $crate::conformance!(@rules [$(#[$attribute])*] $store, repository, limits:
            an_outage_ends_at_the_deadline,
            a_write_without_a_response_ends_with_an_unknown_outcome,
            a_late_decision_is_not_written,
            contention_ends_at_the_deadline,
            retries_share_a_budget,
            all_reads_are_retried,
            only_writes_have_unknown_outcomes,
            a_transaction_has_the_same_limits,
            a_clock_far_behind_is_an_error,
            times_beyond_the_calendar_are_refused,
        );
        $crate::conformance!(@rules [$(#[$attribute])*] $store, repository, races:
            sixteen_writers_of_fifty_commands_lose_nothing,
            a_retry_decides_on_the_state_of_the_winner,
            a_busy_stream_is_read_after_three_lost_races,
            a_winner_of_any_size_is_followed,
            a_rejection_after_a_lost_race_is_verified,
            a_lost_race_in_a_transaction_costs_one_request,
            a_conflict_at_every_attempt_is_reported,
        );
        $crate::conformance!(@rules [$(#[$attribute])*] $store, repository, claims:
            a_taken_claim_names_its_holder,
            a_claim_is_given_back_with_the_next_one,
            a_claim_needs_an_event,
            a_claim_is_not_taken_by_who_loses_the_race,
        );
        $crate::conformance!(@rules [$(#[$attribute])*] $store, repository, eventual:
            a_command_that_is_accepted_is_verified_by_its_write,
            what_is_rejected_or_nothing_is_checked,
            loads_are_never_behind,
        );
        $crate::conformance!(@rules [$(#[$attribute])*] $store, repository, expecting:
            a_command_is_carried_out_at_the_version_expected,
            a_lost_race_is_outdated,
            a_repeated_command_is_answered_as_before,
            a_transaction_expects_versions_too,
        );
        $crate::conformance!(@rules [$(#[$attribute])*] $store, repository, sharing:
            commands_that_wait_share_a_write,
            each_is_decided_on_the_state_after_the_one_before,
            a_rejection_waits_for_the_commits_it_was_decided_on,
            a_group_that_loses_a_race_is_decided_again,
            a_lost_response_to_a_group_is_resolved,
            a_failed_group_leaves_nothing_in_the_state,
            a_command_that_cannot_be_stored_fails_alone,
            groups_have_limits,
            commands_with_their_own_write_are_executed_beside_the_group,
            groups_of_several_repositories_compete,
            snapshots_and_the_cache_follow_groups,
            a_head_that_loses_a_race_hands_over_what_it_wrote,
        );
        $crate::conformance!(@rules [$(#[$attribute])*] $store, repository, redelivery:
            a_command_is_carried_out_once,
            the_first_outcome_is_returned_again,
            a_repetition_reports_all_of_its_cost,
            a_rejection_is_not_remembered,
            nothing_to_do_is_remembered,
            deliveries_at_the_same_time_are_one,
            a_key_expires,
            a_key_is_for_one_command,
            a_repetition_reads_from_the_snapshot,
            a_damaged_record_is_reported,
        );
        $crate::conformance!(@rules [$(#[$attribute])*] $store, repository, services:
            one_that_is_late_is_a_rejection,
            are_asked_again_after_a_conflict,
            are_not_asked_again_when_an_answer_is_lost,
            are_asked_again_under_a_key,
            given_up_are_whole_or_nothing,
        );
        $crate::conformance!(@rules [$(#[$attribute])*] $store, repository, transactions:
            are_recorded_as_one,
            a_rejection_stops_all,
            commands_for_one_aggregate_follow_each_other,
            what_was_seen_is_still_so,
            are_decided_again_as_a_whole,
            commands_that_lost_leave_nothing_in_the_state,
            are_carried_out_once,
            with_claims_move_them,
            that_cannot_be_are_refused,
            transfers_keep_the_sum,
        );
    };
    (@rules $attributes:tt $store:expr, $group:ident, $noun:ident: $($rule:ident),* $(,)?) => {
        $crate::__rules!($attributes $store, ::es_core::EventStore, $group, $noun: $($rule),*);
    };
    ($store:expr) => {
        $crate::conformance!([] $store);
    };
}

/// Generates a module `documents` with a test for each rule of documents. The expression returns an `Arc<dyn
/// Documents>`.
#[macro_export]
macro_rules! documents_conformance {
    ([$(#[$attribute:meta])*] $store:expr) => {
        mod documents {
            #[allow(unused_imports)]
            use super::*;
            $crate::documents_conformance!(@rules [$(#[$attribute])*] $store, content:
                a_document_reads_back_as_it_was_written,
                names_of_any_text_are_kept_apart,
                bodies_of_any_text_survive,
                impossible_names_are_refused,
                bodies_with_a_null_character_are_refused,
                documents_have_a_limit,
            );
            $crate::documents_conformance!(@rules [$(#[$attribute])*] $store, expected:
                any_takes_every_document,
                absent_takes_only_a_document_that_is_not_there,
                at_takes_only_that_revision,
            );
            $crate::documents_conformance!(@rules [$(#[$attribute])*] $store, set:
                several_documents_are_changed_as_one,
                a_document_that_is_outdated_stops_the_whole_set,
                a_hundred_documents_are_changed_at_once,
                a_set_has_a_limit_in_bytes,
                unsound_sets_are_refused,
            );
            $crate::documents_conformance!(@rules [$(#[$attribute])*] $store, repetition:
                a_document_is_written_once,
                what_was_written_since_stays,
                a_set_is_carried_out_once,
                a_refused_set_may_succeed_later,
            );
            $crate::documents_conformance!(@rules [$(#[$attribute])*] $store, racing:
                of_many_writers_from_one_revision_one_wins,
                of_many_that_delete_one_revision_one_wins,
                of_many_sets_from_one_revision_one_wins,
                counts_are_never_lost,
            );
            $crate::documents_conformance!(@rules [$(#[$attribute])*] $store, listing:
                documents_are_listed_in_order,
                every_query_is_answered_as_asked,
                ranges_of_names_include_their_bounds,
                a_list_goes_on_while_documents_change,
                more_than_1_megabyte_is_listed_whole,
                an_eventual_list_is_complete_in_time,
            );
        }
    };
    (@rules $attributes:tt $store:expr, $noun:ident: $($rule:ident),* $(,)?) => {
        $crate::__rules!($attributes $store, ::es_core::documents::Documents, documents, $noun: $($rule),*);
    };
    ($store:expr) => {
        $crate::documents_conformance!([] $store);
    };
}

/// Generates a module `feed` with a test for each rule of the feed. The expression returns an `Arc<dyn Feed>` without
/// other writers.
///
/// If the store needs an indexer, the expression must start it, and the indexer must run until the store is dropped.
#[macro_export]
macro_rules! feed_conformance {
    ([$(#[$attribute:meta])*] $store:expr) => {
        mod feed {
            #[allow(unused_imports)]
            use super::*;
            $crate::feed_conformance!(@rules [$(#[$attribute])*] $store, order:
                every_event_is_told_once,
                large_commits_are_told_whole,
                sets_are_told_as_commits,
                repetitions_and_conflicts_are_not_told,
                what_was_told_stays,
            );
            $crate::feed_conformance!(@rules [$(#[$attribute])*] $store, groups:
                every_commit_is_an_entry,
                pages_follow_each_other_from_every_position,
                commits_of_other_events_are_left_out,
            );
            $crate::feed_conformance!(@rules [$(#[$attribute])*] $store, paging:
                pages_follow_each_other_from_every_position,
                a_page_is_about_as_long_as_asked,
                a_page_is_about_as_large_as_asked,
                the_last_page_ends_where_the_slice_ends,
                a_position_beyond_the_end_is_an_error,
                anchors_lead_on,
                another_anchor_is_an_error,
            );
            $crate::feed_conformance!(@rules [$(#[$attribute])*] $store, filter:
                commits_of_other_events_are_left_out,
                a_page_goes_through_what_it_leaves_out,
                deleted_streams_are_passed_over,
                archived_streams_come_back,
            );
            $crate::feed_conformance!(@rules [$(#[$attribute])*] $store, bounds:
                slices_stay_as_they_are,
                a_slice_that_there_is_not_is_an_error,
                the_end_is_the_last_position,
                what_is_indexed_is_told,
                growth_wakes_who_waits,
            );
            $crate::feed_conformance!(@rules [$(#[$attribute])*] $store, read_models:
                a_range_selects_the_rows_within_its_bounds,
                a_trace_has_all_that_a_command_has_caused,
                a_page_continues_where_the_last_one_ended,
                a_count_stops_at_its_limit,
                the_ids_of_an_aggregate_are_listed_once,
            );
        }
    };
    (@rules $attributes:tt $store:expr, $noun:ident: $($rule:ident),* $(,)?) => {
        $crate::__rules!($attributes $store, ::es_core::feed::Feed, feed, $noun: $($rule),*);
    };
    ($store:expr) => {
        $crate::feed_conformance!([] $store);
    };
}

/// Generates a module `splits` with a test for each rule of slices that are split, for a store that supports it. The
/// expression is that of [`feed_conformance!`](crate::feed_conformance).
#[macro_export]
macro_rules! splits_conformance {
    ([$(#[$attribute:meta])*] $store:expr) => {
        mod splits {
            #[allow(unused_imports)]
            use super::*;
            $crate::splits_conformance!(@rules [$(#[$attribute])*] $store, closed:
                keeps_its_events,
                is_reported_at_its_end,
                may_be_empty,
                is_split_once,
                has_no_position_beyond_its_end,
                must_exist,
            );
            $crate::splits_conformance!(@rules [$(#[$attribute])*] $store, children:
                continue_the_streams_of_their_parent,
                receive_new_streams,
                can_be_split,
                leave_other_slices_alone,
                have_every_event_once,
            );
        }
    };
    (@rules $attributes:tt $store:expr, $noun:ident: $($rule:ident),* $(,)?) => {
        $crate::__rules!($attributes $store, ::es_core::feed::Feed, splits, $noun: $($rule),*);
    };
    ($store:expr) => {
        $crate::splits_conformance!([] $store);
    };
}

/// Generates a module `large_events` with a test for each rule of events and snapshots that do not fit into an item.
/// The expression returns an `Arc<dyn EventStore>` that accepts payloads and states of up to
/// [`MAX_BYTES`](crate::conformance::large_events::MAX_BYTES), such as a store with a payload store.
#[macro_export]
macro_rules! large_events_conformance {
    ([$(#[$attribute:meta])*] $store:expr) => {
        mod large_events {
            #[allow(unused_imports)]
            use super::*;
            $crate::large_events_conformance!(@rules [$(#[$attribute])*] $store, commits:
                read_back_as_they_were_written,
                may_have_more_than_4_megabytes_together,
                are_stored_once,
                of_equal_content_are_kept_apart,
                collide_with_others_from_the_same_version,
                are_written_in_sets,
            );
            $crate::large_events_conformance!(@rules [$(#[$attribute])*] $store, snapshots:
                are_replaced_by_higher_versions,
                of_another_shape_are_not_used,
            );
            $crate::large_events_conformance!(@rules [$(#[$attribute])*] $store, limits:
                an_event_over_the_limit_is_refused,
                a_snapshot_over_the_limit_is_refused,
            );
            $crate::large_events_conformance!(@rules [$(#[$attribute])*] $store, repository:
                commands_and_loads_see_large_events,
            );
        }
    };
    (@rules $attributes:tt $store:expr, $noun:ident: $($rule:ident),* $(,)?) => {
        $crate::__rules!($attributes $store, ::es_core::EventStore, large_events, $noun: $($rule),*);
    };
    ($store:expr) => {
        $crate::large_events_conformance!([] $store);
    };
}

/// Generates a module `payloads` with a test for each rule of payload stores. The expression returns an `Arc<dyn
/// PayloadStore>`.
#[macro_export]
macro_rules! payloads_conformance {
    ([$(#[$attribute:meta])*] $store:expr) => {
        mod payloads {
            #[allow(unused_imports)]
            use super::*;
            $crate::payloads_conformance!(@rules [$(#[$attribute])*] $store, put:
                an_object_reads_back_as_it_was_written,
                a_repeated_put_changes_nothing,
                other_content_is_refused,
                names_are_kept_apart,
                many_writers_of_one_object_succeed,
            );
            $crate::payloads_conformance!(@rules [$(#[$attribute])*] $store, get:
                a_missing_object_is_named,
            );
            $crate::payloads_conformance!(@rules [$(#[$attribute])*] $store, delete:
                a_deleted_object_is_gone,
                a_deletion_can_be_repeated,
                a_deleted_object_can_be_stored_again,
            );
            $crate::payloads_conformance!(@rules [$(#[$attribute])*] $store, listing:
                an_unknown_prefix_is_empty,
                the_objects_of_a_prefix_are_listed,
                more_than_1000_objects_are_listed,
            );
        }
    };
    (@rules $attributes:tt $store:expr, $noun:ident: $($rule:ident),* $(,)?) => {
        $crate::__rules!($attributes $store, ::es_core::payloads::PayloadStore, payloads, $noun: $($rule),*);
    };
    ($store:expr) => {
        $crate::payloads_conformance!([] $store);
    };
}

/// Generates a module `keyring` with a test for each rule of keyrings. The expression returns an `Arc<dyn
/// Keyrings>`: a function that opens the keyring with an empty cache, as a new process does.
///
/// ```
/// use std::sync::Arc;
///
/// use es_core::personal::MemoryKeyring;
///
/// es_tests::keyring_conformance!({
///     let keyring = MemoryKeyring::new();
///     Arc::new(move || keyring.clone())
/// });
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! keyring_conformance {
    ([$(#[$attribute:meta])*] $keyrings:expr) => {
        mod keyring {
            #[allow(unused_imports)]
            use super::*;
            $crate::keyring_conformance!(@rules [$(#[$attribute])*] $keyrings, creating:
                a_key_is_created_once,
                a_read_creates_nothing,
                keys_are_in_the_order_of_the_subjects,
                subjects_of_any_text_are_kept_apart,
                processes_at_the_same_time_agree,
            );
            $crate::keyring_conformance!(@rules [$(#[$attribute])*] $keyrings, forgetting:
                a_forgotten_subject_never_gets_a_key_again,
                a_subject_without_a_key_can_be_forgotten,
                can_be_repeated,
                other_subjects_keep_their_keys,
                wins_against_creating_at_the_same_time,
            );
        }
    };
    (@rules $attributes:tt $keyrings:expr, $noun:ident: $($rule:ident),* $(,)?) => {
        $crate::__rules!($attributes $keyrings, $crate::conformance::keyring::Keyrings, keyring, $noun: $($rule),*);
    };
    ($keyrings:expr) => {
        $crate::keyring_conformance!([] $keyrings);
    };
}

/// Generates a module of tests, one for each of the rules.
#[doc(hidden)]
#[macro_export]
macro_rules! __rules {
    ($attributes:tt $store:expr, $contract:path, $group:ident, $noun:ident: $($rule:ident),*) => {
        mod $noun {
            #[allow(unused_imports)]
            use super::*;
            $($crate::__rule!($attributes $store, $contract, $group, $noun, $rule);)*
        }
    };
}

/// Generates the test of a rule.
#[doc(hidden)]
#[macro_export]
macro_rules! __rule {
    ([$(#[$attribute:meta])*] $store:expr, $contract:path, $group:ident, $noun:ident, $rule:ident) => {
        $(#[$attribute])*
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $rule() {
            let store: ::std::sync::Arc<dyn $contract> = $store;
            $crate::conformance::$group::$noun::$rule(store).await;
        }
    };
}
