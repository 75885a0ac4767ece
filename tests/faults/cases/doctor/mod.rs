//! What `infisical gateway doctor` names under each fault: exactly the layer that failed, what
//! depends on it is not checked, and a healthy system shows nothing. The rows are those of
//! docs/troubleshooting.md.

mod identity;
mod machine;
mod platform;
mod proxy;
mod relay;
mod relay_role;
mod target;

use crate::runner::Case;

pub(super) const CASES: &[Case] = &[
    Case {
        name: "doctor_names_faults_of_the_machine",
        row: "",
        bound: None,
        labs: 1,
        run: machine::run,
    },
    Case {
        name: "doctor_names_faults_of_the_platform",
        row: "",
        bound: None,
        labs: 1,
        run: platform::run,
    },
    Case {
        name: "doctor_names_faults_of_the_proxy",
        row: "",
        bound: None,
        labs: 1,
        run: proxy::run,
    },
    Case {
        name: "doctor_names_a_refused_identity",
        row: "",
        bound: None,
        labs: 1,
        run: identity::run,
    },
    Case {
        name: "doctor_names_faults_of_the_relay",
        row: "",
        bound: None,
        labs: 1,
        run: relay::run,
    },
    Case {
        name: "relays_doctor_names_its_faults",
        row: "",
        bound: None,
        labs: 1,
        run: relay_role::run,
    },
    Case {
        name: "doctor_names_faults_of_a_target",
        row: "",
        bound: None,
        labs: 1,
        run: target::run,
    },
];
