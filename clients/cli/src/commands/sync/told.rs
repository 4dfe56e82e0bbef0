//! What a sync tells, as lines.

use std::io;

use ::sync::driver::Notice;
use ::sync::effect::Told;
use ::sync::plan::{Hold, Op};
use serde_json::{Value, json};

use crate::output::Output;

/// Writes a line.
pub(super) fn tell(output: Output, notice: &Notice) -> io::Result<()> {
    let (value, text) = match notice {
        Notice::Told(told) => line(told),
        Notice::Planned(op) => planned(op),
        // A line of the terminal shows it.
        Notice::Left(_) => return Ok(()),
        Notice::Polling(reason) => (
            json!({ "type": "polling", "reason": reason }),
            format!("· no WebSocket: {reason}; checking for changes every 30 to 60 s"),
        ),
        Notice::Offline(reason, retry_in) => (
            json!({ "type": "offline", "reason": reason, "againInMs": retry_in.as_millis() }),
            format!("· offline: {reason}; trying again in {:.0} s", retry_in.as_secs_f64()),
        ),
        Notice::Unwatched => (
            json!({ "type": "unwatched" }),
            "· the system cannot watch all folders, so they are scanned each minute; on Linux, raise fs.inotify.max_user_watches"
                .to_owned(),
        ),
    };
    output.line(&value, text)
}

fn line(told: &Told) -> (Value, String) {
    match told {
        Told::Placed(path, version) => (
            json!({ "type": "placed", "path": path, "version": version }),
            format!("+ {path} v{version}"),
        ),
        Told::Sent(path, version) => (
            json!({ "type": "sent", "path": path, "version": version }),
            format!("↑ {path} v{version}"),
        ),
        Told::Trashed(path) => (json!({ "type": "trashed", "path": path }), format!("- {path}")),
        Told::Deleted(path) => (json!({ "type": "deleted", "path": path }), format!("× {path}")),
        Told::MovedHere(from, to) => (
            json!({ "type": "movedHere", "from": from, "path": to }),
            format!("> {from} → {to}"),
        ),
        Told::MovedThere(from, to) => (
            json!({ "type": "movedThere", "from": from, "path": to }),
            format!("> {from} → {to} in the space"),
        ),
        Told::Conflict { of, copy } => (
            json!({ "type": "conflict", "path": of, "copy": copy }),
            format!("! {of} kept as {copy}"),
        ),
        Told::CameBack(path) => (
            json!({ "type": "cameBack", "path": path }),
            format!("· {path} was deleted here and changed elsewhere, so it comes back"),
        ),
        Told::Restored(path) => (
            json!({ "type": "restored", "path": path }),
            format!("· {path} was deleted elsewhere and changed here, so it is sent again"),
        ),
        Told::Held(path, hold) => (
            json!({ "type": "held", "path": path, "reason": hold }),
            format!("~ {path} held: {}", reason(hold)),
        ),
        Told::Released(path) => (
            json!({ "type": "released", "path": path }),
            format!("· {path} is not held any more"),
        ),
        Told::Current { files, held } => (
            json!({ "type": "current", "files": files, "held": held }),
            format!("current: {files} files, {held} held"),
        ),
        Told::DeletionsHeld { there, here } => (
            json!({ "type": "deletionsHeld", "there": there, "here": here }),
            format!(
                "~ {there} deletions in the space and {here} in the folder wait for you: `syncsphere sync confirm` makes \
                 them, `syncsphere sync undo` brings the files back"
            ),
        ),
        Told::OtherEpoch => (
            json!({ "type": "restore" }),
            "· the service was restored to an earlier state; no file is deleted, and what this folder has beyond it is \
             sent"
                .to_owned(),
        ),
        Told::Rejoined => (
            json!({ "type": "rejoined" }),
            "· the folder was moved or copied; nothing is deleted, and everything is compared again".to_owned(),
        ),
        Told::Unavailable(reason) => (
            json!({ "type": "unavailable", "reason": reason }),
            format!("· {reason}; trying again"),
        ),
        Told::ReadOnly => (
            json!({ "type": "readOnly" }),
            "· you may only read this space; changes made here are held".to_owned(),
        ),
        Told::Working => (json!({ "type": "working" }), "· working".to_owned()),
    }
}

/// What a dry run shows of an operation.
fn planned(op: &Op) -> (Value, String) {
    match op {
        Op::Upload { path, .. } => (json!({ "type": "upload", "path": path }), format!("↑ {path}")),
        Op::Download { row, to, .. } => (
            json!({ "type": "download", "path": to, "version": row.version }),
            format!("+ {to} v{}", row.version),
        ),
        Op::MoveThere { from, to, .. } => (
            json!({ "type": "moveThere", "from": from, "path": to }),
            format!("> {from} → {to} in the space"),
        ),
        Op::DeleteThere { path, .. } => (json!({ "type": "delete", "path": path }), format!("× {path}")),
        Op::Remove { local, .. } => (json!({ "type": "trash", "path": local }), format!("- {local}")),
        Op::MoveHere(moves) => {
            let pairs: Vec<Value> = moves
                .iter()
                .map(|one| json!({ "from": one.from, "path": one.to }))
                .collect();
            let lines: Vec<String> = moves
                .iter()
                .map(|one| format!("> {} → {}", one.from, one.to))
                .collect();
            (json!({ "type": "moveHere", "moves": pairs }), lines.join("\n"))
        }
        Op::SetAside { local, .. } => (
            json!({ "type": "setAside", "path": local }),
            format!("! {local} would get a conflict name"),
        ),
        Op::SetExecutable(_, row, executable) => (
            json!({ "type": "setExecutable", "path": row.local, "executable": executable }),
            format!(
                "· {} would become {}",
                row.local,
                if *executable {
                    "executable"
                } else {
                    "not executable"
                }
            ),
        ),
        Op::Agree(_, row) => (
            json!({ "type": "agree", "path": row.path }),
            format!("= {}", row.path),
        ),
        Op::Forget(..) => (
            json!({ "type": "forget" }),
            "· a file is compared anew".to_owned(),
        ),
    }
}

/// Why a path is held, and what releases it.
pub(super) fn reason(hold: &Hold) -> String {
    match hold {
        Hold::TypeClash => {
            "one side has a folder of this name, the other one a file; rename one of them".to_owned()
        }
        Hold::NotAFile => "a link or another special file has this name; rename it".to_owned(),
        Hold::NameClash => {
            "another file has the same name on this file system; rename one of them".to_owned()
        }
        Hold::BadName(why) => format!("{why}; rename it"),
        Hold::Unreadable => "a folder on the way cannot be read; change its permissions".to_owned(),
        Hold::ReadOnly => "you may only read this space; ask an owner for a higher role".to_owned(),
        Hold::Direction => "changes of this direction are switched off".to_owned(),
        Hold::DeletionGuard => {
            "its deletion waits for `syncsphere sync confirm` or `syncsphere sync undo`".to_owned()
        }
        Hold::Excluded => "its folder is excluded on this device".to_owned(),
        Hold::Busy => "a program writes to it all the time; it is tried again".to_owned(),
        Hold::NoSpace => "the disk is full; it is tried again".to_owned(),
        Hold::Disk(why) | Hold::Refused(why) => why.clone(),
        Hold::WrongContent => {
            "its content is not the one that its uploader declared; upload it again on the other device"
                .to_owned()
        }
        Hold::Unavailable(why) => format!("{why}; it is tried again"),
    }
}
