//! The contract of a store: one property, one function, and for each backend one named test.
//!
//! [`store_conformance!`](crate::store_conformance) makes the tests. A property gets an empty store
//! of its own, and panics where the store breaks it. Where a property needs a lapsed lease, the
//! lease is a few milliseconds long and the property waits for what must follow, with a deadline;
//! so the suite holds for stores whose clock cannot be paused.

#![expect(
    clippy::unwrap_used,
    reason = "these are tests, though the compiler cannot know it"
)]

mod claimed_jobs;
mod claims;
mod drafts;
mod endings;
mod fixture;
mod inspections;
mod job_leases;
mod job_results;
mod log;
mod normalize;
mod openings;
mod tokens;

pub use self::{
    claimed_jobs::*, claims::*, drafts::*, endings::*, inspections::*, job_leases::*,
    job_results::*, log::*, normalize::*, openings::*, tokens::*,
};

/// Tests a store: one named test for each property of the contract.
///
/// `$open` is evaluated once per test, to a future of something that dereferences to a `dyn Store`
/// without sessions and jobs. It is dropped when the test is over.
#[macro_export]
macro_rules! store_conformance {
    ($open:expr) => {
        $crate::store_conformance! { @each $open;
            // claims
            a_claim_creates_the_session
            a_claim_takes_a_session_over_and_raises_its_epoch
            a_claim_reopens_an_ended_session
            a_repeated_claim_still_says_that_the_session_was_reopened
            a_foreign_user_gets_nothing_and_disturbs_nothing
            of_many_claims_each_gets_an_epoch_of_its_own
            a_released_session_lapses_at_once
            an_old_epoch_releases_nothing
            a_lapsed_session_is_claimed_only_after_the_grace
            a_lapsed_session_is_claimed_by_one_sweeper_only
            lapsed_sessions_are_claimed_up_to_the_limit
            a_servers_sessions_lapse_when_its_heartbeats_stop
            a_late_heartbeat_holds_what_is_not_taken
            a_claim_starts_its_servers_lease
            a_heartbeat_tells_what_is_lost
            nobody_holds_what_another_server_holds
            a_server_takes_back_what_it_abandoned
            a_log_keeps_its_id
            another_server_cannot_write_under_the_same_epoch
            a_released_session_takes_no_writes
            a_heartbeat_asks_for_a_thousand_sessions
            a_store_answers_a_ping

            // claims that start a log
            a_claim_starts_the_log_of_a_new_session
            a_repeated_claim_starts_no_second_log
            a_claim_leaves_a_log_as_it_is
            a_foreign_claim_starts_no_log
            a_claim_returns_what_its_user_has_used

            // the log
            events_are_read_back_in_order
            an_append_that_would_leave_a_gap_conflicts
            an_append_behind_the_end_conflicts
            an_append_is_all_or_none
            a_repeated_append_changes_nothing
            a_repeated_append_succeeds_after_the_session_has_moved
            an_old_epoch_cannot_append
            of_two_appends_at_one_position_one_wins
            appends_to_many_sessions_at_once_leave_no_gaps
            a_log_is_read_in_pages
            an_unknown_session_reads_empty

            // what is kept
            every_kind_of_event_is_read_back_as_it_was
            any_text_is_kept
            a_nul_is_kept_as_a_replacement_character
            a_megabyte_is_kept
            many_events_are_appended_at_once
            times_are_kept_to_the_microsecond

            // tokens
            tokens_are_summed_over_all_sessions_of_a_user_since_a_moment
            a_users_tokens_are_nobody_elses
            a_session_that_was_reopened_still_counts

            // drafts
            a_draft_is_replaced_and_given_to_the_next_holder
            a_sweeper_gets_the_draft
            an_answer_deletes_the_draft
            other_events_leave_the_draft
            an_old_epoch_cannot_save_a_draft
            drafts_of_many_sessions_are_saved_at_once

            // endings
            an_end_writes_event_record_and_job
            an_end_is_all_or_none
            a_repeated_end_changes_nothing
            an_old_epoch_cannot_end
            an_ended_session_takes_no_writes
            an_ended_session_does_not_lapse
            an_end_deletes_the_draft

            // endings that claim their jobs
            an_end_claims_its_job_for_a_worker
            an_end_claims_no_other_job
            a_repeated_end_returns_the_same_job
            a_job_claimed_by_an_end_lapses
            a_refused_end_claims_nothing

            // jobs: their results
            a_finished_job_completes_the_session
            a_failed_summary_completes_the_session_too
            a_repeated_finish_applies_once
            the_job_of_a_reopened_session_is_superseded
            a_session_that_ended_twice_is_summarized_as_a_whole
            a_finished_job_is_not_claimed_again

            // jobs: their leases
            attempts_are_counted_at_the_claim
            a_worker_that_lost_its_job_conflicts
            many_workers_never_hold_one_job
            a_job_that_was_given_back_waits_for_its_delay
            a_job_that_was_given_back_is_no_longer_held
            a_job_may_be_given_back_without_counting_the_attempt
            renewing_a_job_prolongs_its_lease
            the_job_that_has_been_due_longest_comes_first
        }
    };
    (@each $open:expr; $($property:ident)*) => {$(
        #[tokio::test]
        async fn $property() {
            $crate::$property(&*$open.await).await;
        }
    )*};
}

/// Tests the operator's view of a store: one named test for each property.
///
/// `$open` is evaluated once per test, to a future of a pair that dereferences to a `dyn Store`
/// without sessions and jobs, and to a `dyn OperatorStore` of the same.
#[macro_export]
macro_rules! inspect_conformance {
    ($open:expr) => {
        $crate::inspect_conformance! { @each $open;
            all_sessions_are_found_page_by_page
            a_session_is_read_as_it_is_kept
            rows_are_read_in_pages
            sessions_are_read_together
            a_job_shows_how_it_stands
            a_failed_job_is_tried_again
            a_job_that_failed_again_is_tried_again
            the_failed_job_of_a_reopened_session_is_left_alone
            a_session_may_be_reopened_while_its_job_is_tried_again
            jobs_are_listed_page_by_page
            after_a_restore_logs_have_new_ids_and_nobody_holds_anything
        }
    };
    (@each $open:expr; $($property:ident)*) => {$(
        #[tokio::test]
        async fn $property() {
            let (store, inspect) = $open.await;
            $crate::$property(&*store, &*inspect).await;
        }
    )*};
}
