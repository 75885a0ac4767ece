//! Snapshots of the database for backups, which are made on the platform's own machine.

use axum::extract::State;

use super::App;
use super::audit::Attempt;
use super::auth::{Administrators, By};
use super::error::ApiError;
use crate::api::types::BackupSnapshot;

/// `POST backup-snapshots`: writes a snapshot into the state directory; the answer is its name there.
/// What is in it crosses no connection.
pub(super) async fn make_snapshot(
    State(app): State<App>,
    by: By<Administrators>,
) -> Result<axum::Json<BackupSnapshot>, ApiError> {
    // First, so that the backup has it too.
    app.record(Attempt::backup(by.requester), None).await?;
    let name = app.store().snapshot().await?;
    Ok(axum::Json(BackupSnapshot { name }))
}
