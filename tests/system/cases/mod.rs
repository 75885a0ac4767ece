//! The scenarios.

mod install;
mod life;
mod mending;
mod sandbox;

use crate::lab::Lab;
use crate::runner::Scenario;

/// Functions as cases with their names.
macro_rules! cases {
    ($module:ident: $($case:ident),+ $(,)?) => {
        &[$((stringify!($case), $module::$case)),+]
    };
}

/// All of them, in the order in which they run.
pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "install",
        boot: install::boot,
        cases: cases![install: make_install_needs_only_a_built_source],
    },
    Scenario {
        name: "life",
        boot: Lab::boot,
        cases: cases![life:
            the_service_starts_and_says_how_it_is,
            a_session_reaches_its_target,
            targets_are_resolved_again_when_the_network_is_back,
            its_secret_is_nowhere_to_be_seen,
            a_killed_gateway_comes_back,
            it_is_back_after_a_reboot,
            it_is_back_after_the_power_was_off,
            a_second_gateway_enrolls_beside_the_first,
        ],
    },
    Scenario {
        name: "mending",
        boot: Lab::boot,
        cases: cases![mending:
            a_change_that_was_held_back_is_used_at_the_next_run,
            a_resolver_and_a_journal_that_start_anew_are_seen,
            known_places_of_secrets_and_programs_are_out_of_reach,
            what_belongs_to_another_user_is_taken_back,
            a_directory_that_others_can_write_to_is_named,
            what_a_deployed_unit_says_itself_is_neither_lost_nor_shown,
            a_template_stays_for_an_instance_that_is_started_by_hand,
            two_installers_exchange_one_token_once,
            an_interrupted_installation_says_how_far_it_came,
            what_is_purged_leaves_no_secret,
        ],
    },
    Scenario {
        name: "sandbox",
        boot: Lab::boot,
        cases: cases![sandbox:
            outside_of_it_nearly_everything_is_possible,
            inside_as_root_only_what_is_needed_is_possible,
            its_score_is_as_good_as_root_can_have,
            inside_as_a_user_only_what_is_needed_is_possible,
            its_score_is_as_good_as_a_user_can_have,
        ],
    },
];
