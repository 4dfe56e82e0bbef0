//! A user of the web page, who sees the newest state of the space.

use super::actors::PATHS;
use super::ledger::{Ledger, brief};
use super::scenario::WebStep;
use super::server::{Server, sha256};
use crate::effect::Upload;
use crate::path::LocalPath;

/// Does a step.
pub fn act(server: &mut Server, ledger: &mut Ledger, step: WebStep) {
    let epoch = server.current_epoch();
    // A page shows what a viewer may not do as not possible.
    let role = std::mem::replace(&mut server.role, model::Role::Owner);
    match step {
        WebStep::Write(path) => {
            let found = server.find(PATHS[path]);
            let bytes = ledger.new_content(0);
            let Ok(target) = crate::names::space_path(&LocalPath::new(PATHS[path])) else {
                return;
            };
            let found = found.or_else(|| server.find(target.as_str()));
            let Ok(key) = format!("web-{}", brief(&bytes)).replace(['«', '»'], "").parse() else {
                return;
            };
            let upload = Upload {
                local: LocalPath::new(PATHS[path]),
                stamp: stamp(),
                path: target,
                size: bytes.len() as u64,
                sha256: sha256(&bytes),
                base: found.as_ref().map(|(id, row, _)| (*id, row.version)),
                key,
                modified_at: None,
                executable: None,
            };
            if server.upload(epoch, &upload, &bytes).is_ok() {
                ledger.log(|| format!("    web: {} at {}", brief(&bytes), PATHS[path]));
                ledger.wrote("web", &bytes, found.as_ref().map(|(_, _, before)| before));
            }
        }
        WebStep::Move(from, to) => {
            if let Some((id, row, _)) = server.find(PATHS[from])
                && let Ok(to) = crate::names::space_path(&LocalPath::new(PATHS[to]))
                && to != row.path
            {
                server.move_file(epoch, id, &to, (row.version, &row.path)).ok();
            }
        }
        WebStep::Replace(path) => {
            act(server, ledger, WebStep::Delete(path));
            act(server, ledger, WebStep::Write(path));
        }
        WebStep::Delete(path) => {
            if let Some((id, row, before)) = server.find(PATHS[path])
                && server.delete(epoch, id, (row.version, &row.path)).is_ok()
            {
                ledger.log(|| format!("    web: deleted {}", brief(&before)));
                ledger.deleted(&before);
            }
        }
        WebStep::Restore(number) => {
            let trash = server.trash();
            if !trash.is_empty() {
                server.restore(trash[number % trash.len()].0);
            }
        }
    }
    server.role = role;
}

fn stamp() -> crate::disk::Stamp {
    let identity = crate::disk::Identity {
        device: 0,
        inode: 0,
        birth: None,
    };
    crate::disk::Stamp {
        identity,
        size: 0,
        modified: 0,
        changed: 0,
    }
}
