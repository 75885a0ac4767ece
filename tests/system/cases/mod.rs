//! The scenarios.

mod handover;
mod install;
mod installer;
mod legacy;
mod life;
mod logs;
mod mending;
mod monitoring;
mod names;
mod packages;
mod platform;
mod readme;
mod relay;
mod reload;
mod sandbox;
mod several;
mod trouble;

use crate::lab::Lab;
use crate::runner::Scenario;
use packages::{ansible, deb, elsewhere, image, quick, rpm};

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
            unit_that_needs_the_tunnel_waits,
            installed_units_are_known_to_systemd,
            it_goes_as_the_readme_says,
        ],
    },
    Scenario {
        name: "installer",
        boot: Lab::boot,
        cases: cases![installer:
            without_root_nothing_is_written,
            without_systemd_nothing_is_written,
            dry_run_hides_secrets_and_writes_nothing,
            all_mistakes_are_reported_before_any_write,
            program_hidden_by_the_sandbox_is_refused,
            failure_after_the_exchange_loses_no_token,
            held_back_it_neither_starts_nor_enables,
            repeated_command_spends_no_second_token,
            once_more_it_changes_and_restarts_nothing,
            changed_flag_is_shown_written_and_used,
            secret_in_command_line_is_warned_of,
            uninstalled_it_leaves_the_configuration_and_comes_back_without_a_token,
            purged_it_leaves_nothing,
        ],
    },
    Scenario {
        name: "legacy",
        boot: Lab::boot,
        cases: cases![legacy:
            unit_of_version_1_is_not_touched,
            deployed_unit_is_replaced_with_its_identity,
            packages_unit_is_used_as_it_is,
            named_deployed_unit_is_taken_over,
            foreign_and_masked_units_are_left_alone,
        ],
    },
    Scenario {
        name: "life",
        boot: Lab::boot,
        cases: cases![life:
            installed_service_reports_its_status,
            doctor_finds_nothing_wrong,
            doctor_names_the_units_fault,
            doctor_names_a_weaker_sandbox,
            a_session_reaches_its_target,
            targets_resolve_again_after_a_network_outage,
            its_secrets_are_nowhere_to_be_seen,
            stop_waits_for_running_transfers,
            a_killed_gateway_comes_back,
            watchdog_restarts_a_hung_gateway,
            it_is_back_after_a_reboot,
            service_is_back_after_a_power_failure,
        ],
    },
    Scenario {
        name: "monitoring",
        boot: Lab::boot,
        cases: cases![monitoring:
            installer_shows_that_it_waits,
            without_the_installer_no_port_is_opened,
            installed_metrics_are_served_in_the_sandbox,
            readiness_follows_the_tunnel,
            status_and_sessions_answer_root,
            ordinary_users_are_refused_with_a_reason,
            removed_setting_closes_the_port_again,
            socket_elsewhere_is_refused,
            installed_metrics_socket_is_served,
            its_own_user_serves_metrics_and_audits,
        ],
    },
    Scenario {
        name: "reload",
        boot: Lab::boot,
        cases: cases![reload:
            reload_cuts_no_session_and_reports,
            wrong_configuration_is_not_loaded,
            reload_moves_the_tunnel_to_another_relay,
            a_relay_that_restarts_is_found_again,
            unprivileged_reload_fails_after_a_change,
        ],
    },
    Scenario {
        name: "trouble",
        boot: trouble::boot,
        cases: cases![trouble:
            a_wrong_enrollment_token_installs_nothing,
            refused_token_fails_with_platforms_message,
            wrong_configuration_fails_without_a_restart,
            boot_does_not_wait_for_the_network,
            boot_does_not_wait_for_the_platform,
            user_triggered_check_cuts_nothing,
            working_gateway_outlives_a_refusing_platform,
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
            deployed_commands_work_for_a_named_gateway,
            an_instance_of_the_template_is_migrated,
            a_gateway_never_runs_twice,
            names_of_other_units_are_refused,
            later_unit_is_found_at_an_upgrade,
            gateway_and_relay_cannot_share_a_name,
            only_gateway_may_be_named,
            name_unknown_to_platform_is_warned_of,
            a_name_with_spaces_is_escaped,
            uninstalled_and_purged_named_gateways_leave_nothing,
        ],
    },
    Scenario {
        name: "handover",
        boot: Lab::boot,
        cases: cases![handover:
            upgraded_program_takes_over_without_a_restart,
            successor_that_fails_changes_nothing,
            stop_leaves_no_process_behind,
            crashed_successor_is_restarted,
            unprivileged_service_hands_over,
            program_elsewhere_is_restarted_visibly,
        ],
    },
    Scenario {
        name: "logs",
        boot: Lab::boot,
        cases: cases![logs:
            contract_lines_reach_the_journal_with_ids,
            the_catalogue_explains_them,
            a_journal_that_stands_still_ends_nothing,
            moved_log_file_is_opened_again,
            unprivileged_services_moved_log_is_opened_again,
        ],
    },
    Scenario {
        name: "relay",
        boot: Lab::boot,
        cases: cases![relay:
            an_installed_relay_serves_gateways_and_clients,
            relay_reload_cuts_no_session,
            sandbox_score_of_relay_is_best,
            another_serves_beside_it,
            deployed_relay_keeps_settings_and_foreign_lines,
            low_port_gives_only_that_right,
            its_gateways_come_back_after_a_restart,
            it_stops_after_the_transfers_that_run,
            relay_sandbox_allows_only_what_is_needed,
        ],
    },
    Scenario {
        name: "platform",
        boot: Lab::boot,
        cases: cases![platform:
            manually_started_platforms_state_is_moved,
            installed_platform_serves_as_its_own_user,
            sandbox_score_as_user_is_best,
            watchdog_restarts_a_hung_platform,
            repeated_command_changes_only_differences,
            reload_takes_a_renewed_certificate,
            it_is_back_after_a_reboot,
            purged_it_leaves_nothing,
        ],
    },
    Scenario {
        name: "mending",
        boot: Lab::boot,
        cases: cases![mending:
            held_back_change_applies_at_next_run,
            restarted_resolver_and_journal_are_used,
            secrets_and_programs_are_out_of_reach,
            files_of_other_users_are_taken_back,
            directory_writable_by_others_is_named,
            deployed_units_settings_are_kept_and_hidden,
            template_stays_for_a_manual_instance,
            two_installers_exchange_one_token_once,
            interrupted_installation_reports_its_progress,
            what_is_purged_leaves_no_secret,
        ],
    },
    Scenario {
        name: "sandbox",
        boot: Lab::boot,
        cases: cases![sandbox:
            outside_of_it_nearly_everything_is_possible,
            root_sandbox_allows_only_what_is_needed,
            sandbox_score_as_root_is_best,
            service_works_as_its_own_user,
            user_sandbox_allows_only_what_is_needed,
            sandbox_score_as_user_is_best,
            encrypted_credential_replaces_the_file,
        ],
    },
];

/// What `make dist` has built, on machines that have nothing of it yet.
pub(crate) const PACKAGES: &[Scenario] = &[
    Scenario {
        name: "deb",
        boot: deb::boot,
        cases: cases![deb:
            apt_installs_it_and_starts_nothing,
            its_gateways_reach_a_private_service,
            upgrade_hands_over_only_what_runs,
            removed_it_keeps_its_configuration,
            purged_it_leaves_nothing,
            official_command_line_keeps_its_name,
        ],
    },
    Scenario {
        name: "ansible",
        boot: ansible::boot,
        cases: cases![ansible:
            role_makes_a_gateway_a_service,
            second_run_changes_nothing,
        ],
    },
    Scenario {
        name: "rpm",
        boot: rpm::boot,
        cases: cases![rpm:
            rpm_installs_it_and_starts_nothing,
            its_gateway_reaches_a_private_service,
            upgrade_hands_over_only_what_runs,
            removed_it_keeps_its_configuration,
        ],
    },
    Scenario {
        name: "image",
        boot: image::boot,
        cases: cases![image:
            containers_gateway_reaches_a_private_service,
            restarted_container_needs_no_token,
            charts_pod_starts_after_the_kubelet,
        ],
    },
    Scenario {
        name: "quick",
        boot: quick::boot,
        cases: cases![quick:
            debian_package_serves_as_the_readme_says,
        ],
    },
    Scenario {
        name: "elsewhere",
        boot: elsewhere::boot,
        cases: cases![elsewhere:
            checksums_are_right_and_signed,
            portable_program_works_on_an_old_release,
            npm_wrapper_runs_the_program,
        ],
    },
];
