//! The archive of a backup: written as a stream, and read from one.
//!
//! The manifest comes first and has size and hash of each file that follows. A reader takes the
//! names that it knows and nothing else, so no name of an archive ever becomes a path.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::time::SystemTime;

use aws_lc_rs::digest::{Context, SHA256};
use tar::{Builder, EntryType, Header};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{DATABASE, Error, FORMAT, Listed, MANIFEST, Manifest, Snapshot, existing, read_plain};
use crate::store::hex;
use crate::{ADMIN_TOKEN_FILE, RELAY_AUTH_SECRET_FILE};

/// Largest secret, in bytes.
pub(super) const MAX_SECRET: u64 = 4096;
/// Largest manifest, in bytes.
const MAX_MANIFEST: u64 = 64 * 1024;
/// Largest database, in bytes: a hundred times what the bounds of the platform make of it.
const MAX_DATABASE: u64 = 16 << 30;
/// Bytes that are copied at once.
const CHUNK: usize = 64 * 1024;

/// Writes an archive of `snapshot` and of what else is in `state_dir`.
///
/// # Errors
/// A file cannot be read, or `out` takes no more.
pub fn write(
    state_dir: &Path,
    mut snapshot: Snapshot,
    out: &mut dyn Write,
    now: SystemTime,
) -> Result<Manifest, Error> {
    let directory = existing(state_dir)?;
    let secrets = [ADMIN_TOKEN_FILE, RELAY_AUTH_SECRET_FILE].map(|name| {
        let content = read_plain(&directory.join(name), MAX_SECRET);
        content.map(|content| (name, content))
    });
    let database = snapshot.rewound().map_err(Error::Write)?;
    let mut files = vec![listed(DATABASE, database)?];
    let mut contents = Vec::new();
    for secret in secrets {
        let (name, content) = secret?;
        files.push(listed(name, &mut content.as_slice())?);
        contents.push(content);
    }
    let time = OffsetDateTime::from(now);
    let description = &snapshot.description;
    let manifest = Manifest {
        format: FORMAT,
        program_version: env!("CARGO_PKG_VERSION").to_owned(),
        created_at: time.format(&Rfc3339).unwrap_or_default(),
        organization_id: description.organization_id.clone(),
        organization_name: description.organization_name.clone(),
        schema_version: description.schema_version,
        files,
    };
    let json = serde_json::to_vec_pretty(&manifest);
    let json = json.map_err(|error| Error::Write(error.into()))?;
    let at = u64::try_from(time.unix_timestamp()).unwrap_or(0);
    let mut archive = Builder::new(out);
    let append = |archive: &mut Builder<_>, name: &str, size: u64, content: &mut dyn Read| {
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::Regular);
        header.set_mode(0o600);
        header.set_size(size);
        header.set_mtime(at);
        archive.append_data(&mut header, name, content)
    };
    let size = u64::try_from(json.len()).unwrap_or(u64::MAX);
    append(&mut archive, MANIFEST, size, &mut json.as_slice()).map_err(Error::Write)?;
    for (index, file) in manifest.files.iter().enumerate() {
        let appended = match index.checked_sub(1).and_then(|index| contents.get(index)) {
            Some(content) => append(&mut archive, &file.name, file.size, &mut content.as_slice()),
            None => {
                let database = snapshot.rewound();
                database.and_then(|content| append(&mut archive, &file.name, file.size, content))
            }
        };
        appended.map_err(Error::Write)?;
    }
    archive.finish().map_err(Error::Write)?;
    Ok(manifest)
}

fn listed(name: &str, content: &mut dyn Read) -> Result<Listed, Error> {
    let (size, sha256) = copy(content, &mut io::sink())?;
    Ok(Listed {
        name: name.to_owned(),
        size,
        sha256,
    })
}

/// Copies everything; its size and hash.
fn copy(from: &mut dyn Read, to: &mut dyn Write) -> Result<(u64, String), Error> {
    let mut hash = Context::new(&SHA256);
    let mut buffer = zeroize::Zeroizing::new(vec![0; CHUNK]);
    let mut size = 0_u64;
    loop {
        let read = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(Error::Read(error)),
        };
        let chunk = buffer.get(..read).unwrap_or_default();
        hash.update(chunk);
        to.write_all(chunk).map_err(Error::Write)?;
        size = size.saturating_add(u64::try_from(read).unwrap_or(u64::MAX));
    }
    Ok((size, hex(hash.finish().as_ref())))
}

/// Reads an archive, and writes each of its files into what `create` gives for its name.
pub(super) fn read(
    archive: &mut dyn Read,
    mut create: impl FnMut(&str) -> Result<File, Error>,
) -> Result<Manifest, Error> {
    let mut archive = tar::Archive::new(archive);
    let mut entries = archive.entries().map_err(Error::Read)?;
    let mut next = || match entries.next() {
        None => Ok(None),
        Some(Ok(entry)) => Ok(Some(entry)),
        Some(Err(error)) => Err(Error::Read(error)),
    };
    let foreign = |text: &str| Error::Foreign(text.to_owned());
    let first = next()?.ok_or_else(|| foreign("it is empty"))?;
    if first.header().entry_type() != EntryType::Regular
        || *first.path_bytes() != *MANIFEST.as_bytes()
    {
        return Err(foreign("it does not begin with a manifest"));
    }
    let mut json = Vec::new();
    let read = first.take(MAX_MANIFEST).read_to_end(&mut json);
    read.map_err(Error::Read)?;
    let manifest: serde_json::Value =
        serde_json::from_slice(&json).map_err(|_| foreign("its manifest is no JSON"))?;
    // Before the rest, which another format may have otherwise.
    let field = |name: &str| manifest.get(name).unwrap_or(&serde_json::Value::Null);
    if field("format")
        .as_u64()
        .is_some_and(|format| format > u64::from(FORMAT))
    {
        let version = field("program_version").as_str().unwrap_or("unknown");
        return Err(Error::Newer {
            program_version: crate::error::printable(version),
        });
    }
    let manifest: Manifest = serde_json::from_value(manifest)
        .map_err(|_| foreign("its manifest has not what belongs there"))?;
    let mut missing = vec![
        (DATABASE, MAX_DATABASE),
        (ADMIN_TOKEN_FILE, MAX_SECRET),
        (RELAY_AUTH_SECRET_FILE, MAX_SECRET),
    ];
    while let Some(mut entry) = next()? {
        let is_regular = entry.header().entry_type() == EntryType::Regular;
        let path = entry.path_bytes().into_owned();
        let known = missing.iter().position(|(name, limit)| {
            is_regular && path == name.as_bytes() && entry.size() <= *limit
        });
        let Some(index) = known else {
            let name = crate::error::printable(&String::from_utf8_lossy(&path));
            return Err(Error::Foreign(format!(
                "it holds {name:?}, which does not belong there"
            )));
        };
        let (name, _) = missing.swap_remove(index);
        let mut file = create(name)?;
        let (size, sha256) = copy(&mut entry, &mut file)?;
        file.sync_all().map_err(Error::Write)?;
        let found = Listed {
            name: name.to_owned(),
            size,
            sha256,
        };
        if !manifest.files.contains(&found) {
            return Err(Error::Damaged(format!("{name} is not as it was written")));
        }
    }
    match missing.first() {
        Some((name, _)) => Err(Error::Damaged(format!("{name} is missing"))),
        None => Ok(manifest),
    }
}
