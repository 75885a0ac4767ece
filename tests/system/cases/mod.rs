//! The scenarios.

mod install;
mod life;
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
