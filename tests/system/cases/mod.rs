//! The scenarios.

mod install;
mod installer;
mod legacy;
mod life;
mod logs;
mod mending;
mod names;
mod platform;
mod readme;
mod relay;
mod reload;
mod sandbox;
mod several;
mod trouble;

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
        name: "readme",
        boot: readme::boot,
        cases: cases![readme:
            its_commands_work_as_they_are_written,
            a_unit_that_needs_the_tunnel_waits_for_it,
            what_is_installed_is_known_to_this_systemd,
            it_goes_as_the_readme_says,
        ],
    },
    Scenario {
        name: "installer",
        boot: Lab::boot,
        cases: cases![installer:
            without_root_it_says_how_and_writes_nothing,
            without_systemd_it_says_so_and_writes_nothing,
            a_dry_run_shows_all_but_secrets_and_writes_nothing,
            all_mistakes_are_told_at_once_and_nothing_is_written,
            a_program_that_its_unit_would_not_see_is_not_installed,
            a_failure_after_the_exchange_loses_no_token,
            held_back_it_neither_starts_nor_enables,
            the_same_command_spends_no_second_token_and_does_the_rest,
            once_more_it_changes_and_restarts_nothing,
            a_changed_flag_is_shown_written_and_used,
            a_secret_in_the_command_line_is_warned_of,
            uninstalled_it_leaves_the_configuration_and_comes_back_without_a_token,
            purged_it_leaves_nothing,
        ],
    },
    Scenario {
        name: "legacy",
        boot: Lab::boot,
        cases: cases![legacy:
            a_unit_of_the_first_version_is_neither_guessed_about_nor_touched,
            a_unit_of_the_deployed_program_is_replaced_and_its_identity_kept,
            a_packages_unit_is_used_as_it_is,
            a_named_unit_of_the_deployed_program_becomes_one_of_ours,
            units_of_others_and_masked_ones_are_left_alone,
        ],
    },
    Scenario {
        name: "life",
        boot: Lab::boot,
        cases: cases![life:
            the_installer_ends_with_a_service_that_says_how_it_is,
            a_session_reaches_its_target,
            targets_are_resolved_again_when_the_network_is_back,
            its_secrets_are_nowhere_to_be_seen,
            a_stop_waits_for_the_transfers_that_run,
            a_killed_gateway_comes_back,
            a_gateway_that_hangs_is_ended_by_the_watchdog_and_comes_back,
            it_is_back_after_a_reboot,
            it_is_back_after_the_power_was_off,
        ],
    },
    Scenario {
        name: "reload",
        boot: Lab::boot,
        cases: cases![reload:
            a_reload_cuts_no_session_and_says_what_it_did,
            a_reload_of_a_wrong_configuration_keeps_the_old_one_and_says_why,
            a_reload_moves_the_tunnel_to_another_relay,
            a_relay_that_restarts_is_found_again,
            a_reload_of_a_service_that_is_not_root_fails_after_a_change,
        ],
    },
    Scenario {
        name: "trouble",
        boot: trouble::boot,
        cases: cases![trouble:
            a_wrong_enrollment_token_installs_nothing,
            a_refused_token_fails_at_once_and_for_good_with_the_platforms_message,
            a_wrong_configuration_fails_at_once_and_for_good,
            a_boot_without_network_does_not_wait_and_ends_well_when_it_comes,
            a_boot_without_platform_does_not_wait_and_ends_well_when_it_comes,
            a_person_can_make_it_look_at_its_tunnel_which_cuts_nothing,
            a_gateway_that_has_worked_outlives_a_platform_that_refuses_it,
        ],
    },
    Scenario {
        name: "several",
        boot: Lab::boot,
        cases: cases![several:
            a_named_gateway_serves_beside_the_first,
            the_other_is_as_well_protected,
            stopping_one_leaves_the_other,
            both_are_back_after_a_reboot,
            uninstalling_one_leaves_the_other,
        ],
    },
    Scenario {
        name: "names",
        boot: Lab::boot,
        cases: cases![names:
            the_deployed_commands_work_for_a_named_gateway,
            an_instance_of_the_template_is_migrated,
            a_gateway_never_runs_twice,
            names_of_other_units_are_refused,
            a_unit_that_came_later_is_found_at_an_upgrade,
            a_gateway_and_a_relay_cannot_share_a_name,
            the_only_gateway_stays_that_when_it_is_named,
            a_name_that_the_platform_does_not_know_is_warned_of,
            a_name_with_spaces_is_escaped,
            uninstalled_and_purged_named_gateways_leave_nothing,
        ],
    },
    Scenario {
        name: "logs",
        boot: Lab::boot,
        cases: cases![logs:
            contract_lines_reach_the_journal_with_id_and_priority,
            the_catalogue_explains_them,
            a_journal_that_stands_still_ends_nothing,
            a_log_file_is_moved_away_and_begun_anew,
            so_is_that_of_a_service_that_is_no_longer_root,
        ],
    },
    Scenario {
        name: "relay",
        boot: Lab::boot,
        cases: cases![relay:
            an_installed_relay_serves_gateways_and_clients,
            a_reload_of_the_relay_cuts_no_session,
            its_score_is_as_good_as_a_relay_can_have,
            another_serves_beside_it,
            a_deployed_relay_keeps_its_settings_and_foreign_lines,
            on_a_low_port_it_has_the_right_to_that_and_no_other,
            its_gateways_come_back_after_a_restart,
            it_stops_after_the_transfers_that_run,
            inside_of_it_only_what_is_needed_is_possible,
        ],
    },
    Scenario {
        name: "platform",
        boot: Lab::boot,
        cases: cases![platform:
            the_state_of_a_platform_that_was_started_by_hand_is_not_left_behind,
            an_installed_platform_serves_as_a_user_of_its_own,
            its_score_is_as_good_as_a_user_can_have,
            a_platform_that_hangs_is_ended_by_the_watchdog_and_comes_back,
            the_same_command_changes_what_differs_and_nothing_else,
            it_is_back_after_a_reboot,
            purged_it_leaves_nothing,
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
            as_a_user_of_its_own_it_serves_without_root,
            inside_as_a_user_only_what_is_needed_is_possible,
            its_score_is_as_good_as_a_user_can_have,
            an_encrypted_credential_is_as_good_as_the_file,
        ],
    },
];
