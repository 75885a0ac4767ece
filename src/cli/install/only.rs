//! A gateway or a relay that is installed as the only one of its machine, and is named all the
//! same. A second unit of it would be a second connection of the same gateway.

use std::path::Path;

use super::super::service;
use crate::config::file;
use crate::install::existing::{self, Existing};
use crate::install::place::{Place, UNITS};

/// The place of the only one, if that is installed and has the name of `place`.
pub(crate) fn with_name_of(place: &Place) -> Option<Place> {
    let name = place.name()?;
    let only = Place::try_new(place.role(), None).ok()?;
    let unit = existing::load(&Path::new(UNITS).join(only.service()), &only);
    let is_installed = matches!(unit, Ok(Existing::Ours(_) | Existing::Deployed(_)))
        || service::is_enabled(&only.service());
    let key = place.role().keys().name;
    let configured = file::load(&only.configuration()).ok()?;
    let has_name = configured
        .iter()
        .any(|entry| entry.key == key && entry.value.expose() == name);
    (is_installed && has_name).then_some(only)
}
