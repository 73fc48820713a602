//! What one side says is what the other side hears.

use crate::words;
use lapstrake::convert::Malformed;
use lapstrake::{limits, v1};
use lapstrake_core::assignment::bytes::{SET_BYTES, of_set};
use proptest::prelude::*;
use prost::Message;
use std::fmt::Debug;

/// Sends a word by way of its bytes.
fn cross<C, W>(said: C) -> Result<(), TestCaseError>
where
    C: Clone + Debug + PartialEq + TryFrom<W, Error = Malformed>,
    W: Message + Default + From<C>,
{
    let bytes = W::from(said.clone()).encode_to_vec();
    let arrived = W::decode(bytes.as_slice()).map_err(|error| TestCaseError::fail(error.to_string()))?;
    prop_assert_eq!(C::try_from(arrived), Ok(said));
    Ok(())
}

proptest! {
    #[test]
    fn the_controller_hears_what_the_agent_says(word in words::agent_word()) {
        cross::<_, v1::OpenSessionRequest>(word)?;
    }

    #[test]
    fn the_agent_hears_what_the_controller_says(word in words::controller_word()) {
        cross::<_, v1::OpenSessionResponse>(word)?;
    }

    #[test]
    fn an_assignment_set_arrives_whole(set in words::assignment_set()) {
        cross::<_, v1::AssignmentSet>(set)?;
    }

    #[test]
    fn a_set_is_never_larger_than_core_reckons(set in words::assignment_set()) {
        let encoded = v1::AssignmentSet::from(set.clone()).encoded_len() as u64;
        prop_assert!(of_set(&set) >= encoded, "{} reckoned, {encoded} encoded", of_set(&set));
    }

    #[test]
    fn a_report_arrives_whole(report in words::node_report()) {
        cross::<_, v1::NodeReport>(report)?;
    }

    #[test]
    fn the_output_of_a_job_arrives_byte_for_byte(word in words::logs_word()) {
        cross::<_, v1::StreamLogsRequest>(word)?;
    }

    #[test]
    fn what_goes_between_an_operator_and_a_job_arrives_byte_for_byte(said in words::from_job(), asked in words::to_job()) {
        cross::<_, v1::StreamTunnelRequest>(said)?;
        cross::<_, v1::StreamTunnelResponse>(asked)?;
    }

    #[test]
    fn an_enrolment_arrives_whole(request in words::enrolment(), answer in words::enrolled()) {
        cross::<_, v1::EnrolRequest>(request)?;
        cross::<_, v1::EnrolResponse>(answer)?;
    }

    #[test]
    fn a_renewal_arrives_whole(request in words::renewal(), answer in words::renewed()) {
        cross::<_, v1::RenewRequest>(request)?;
        cross::<_, v1::RenewResponse>(answer)?;
    }
    #[test]
    fn a_wish_to_return_arrives_whole(request in words::return_wish(), answer in words::return_answer()) {
        cross::<_, v1::AskReturnRequest>(request)?;
        cross::<_, v1::AskReturnResponse>(answer)?;
    }
}

#[test]
fn what_placement_allows_a_set_is_less_than_an_agent_decodes_with_a_quarter_to_spare() {
    let most = limits::AGENT_DECODES_BYTES as u64;
    assert!(SET_BYTES <= most / 4 * 3, "{SET_BYTES} of {most}");
}
