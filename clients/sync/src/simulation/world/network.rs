//! Requests of the devices.

use std::sync::Arc;

use model::Epoch;

use super::{Event, World};
use crate::disk::{Disk as _, DiskErrorKind};
use crate::effect::{Answer, EffectId, Fetch, Input, RemoteError, Request, Upload};
use crate::path::Place;
use crate::planted::{Bug, is_planted};
use crate::simulation::disk::{Bytes, lock};
use crate::simulation::server::{Server, sha256};

fn unavailable<T>(why: &str) -> Result<T, RemoteError> {
    Err(RemoteError::Unavailable(why.to_owned()))
}

impl World {
    fn has_net_fault(&mut self, name: &str) -> bool {
        let faults = self.scenario.net_faults;
        let fails = !self.is_quiet && faults > 0 && self.rng.u32(..faults) == 0;
        if fails {
            self.hits.hit(name);
        }
        fails
    }

    pub(super) fn network(&mut self, event: Event) {
        match event {
            Event::Fetch(device, generation, id, fetch) if self.devices[device].generation == generation => {
                let result = self.fetch(device, &fetch);
                self.deliver(device, generation, Input::Fetched(id, result));
            }
            Event::Read(device, generation, id, upload, epoch) => {
                if self.devices[device].generation != generation {
                    return;
                }
                if self.has_net_fault("upload: lost before") {
                    let result = unavailable("the network is down");
                    self.deliver(device, generation, Input::Uploaded(id, result));
                    return;
                }
                match self.read(device, &upload) {
                    Ok(bytes) => {
                        self.after(5, 500, Event::Send(device, generation, id, upload, epoch, bytes));
                    }
                    Err(error) => self.deliver(device, generation, Input::Uploaded(id, Err(error))),
                }
            }
            // Sent requests arrive even if the process has ended meanwhile.
            Event::Send(device, generation, id, upload, epoch, bytes) => {
                self.send(device, generation, (id, epoch), &upload, &bytes);
            }
            Event::Request(device, generation, id, request, epoch) => {
                self.request(device, generation, id, request, epoch);
            }
            Event::Page(device, generation, id, after, epoch)
                if self.devices[device].generation == generation =>
            {
                self.list_page(device, generation, id, after.as_deref(), epoch);
            }
            _ => {}
        }
    }

    fn deliver(&mut self, device: usize, generation: u32, input: Input) {
        self.after(5, 200, Event::Deliver(device, generation, input));
    }

    /// Downloads into a part: the disk may fail or crash at each piece.
    fn fetch(&mut self, device: usize, fetch: &Fetch) -> Result<(), RemoteError> {
        if self.has_net_fault("fetch: lost") {
            return unavailable("the network is down");
        }
        let Some(bytes) = self.server.content(fetch.file_id, fetch.version) else {
            return Err(RemoteError::Outdated("no such version".to_owned()));
        };
        let mut bytes = bytes.to_vec();
        if self.has_net_fault("fetch: corrupted") {
            bytes.push(1);
        }
        let disk = self.devices[device].disk.clone();
        let half = bytes.len() / 2;
        disk.create_part(&fetch.part)
            .and_then(|()| disk.append_part(&fetch.part, &bytes[..half]))
            .and_then(|()| disk.append_part(&fetch.part, &bytes[half..]))
            .map_err(RemoteError::Disk)?;
        if sha256(&bytes) == fetch.sha256 {
            Ok(())
        } else if self
            .server
            .content(fetch.file_id, fetch.version)
            .is_some_and(|it| sha256(&it) == fetch.sha256)
        {
            unavailable("the content was damaged on the way")
        } else {
            Err(RemoteError::WrongContent)
        }
    }

    fn read(&mut self, device: usize, upload: &Upload) -> Result<Bytes, RemoteError> {
        let disk = self.devices[device].disk.clone();
        let mut bytes = Vec::new();
        let read = disk.read(&Place::Tree(upload.local.clone()), &mut |piece| {
            bytes.extend_from_slice(piece);
        });
        match read {
            Err(error) if error.kind == DiskErrorKind::NotFound => return Err(RemoteError::ContentChanged),
            Err(error) => return Err(RemoteError::Disk(error)),
            Ok(_) => {}
        }
        if sha256(&bytes) != upload.sha256 && !is_planted(Bug::UploadNotCompared) {
            self.hits.hit("upload: content changed");
            return Err(RemoteError::ContentChanged);
        }
        Ok(bytes.into())
    }

    fn send(
        &mut self,
        device: usize,
        generation: u32,
        (id, epoch): (EffectId, Option<Epoch>),
        upload: &Upload,
        bytes: &Bytes,
    ) {
        if self.has_net_fault("upload: lost on the way") {
            self.deliver(device, generation, Input::Uploaded(id, unavailable("timeout")));
            return;
        }
        let Some(epoch) = epoch else {
            return;
        };
        let result = self.server.upload(epoch, upload, bytes);
        if result.is_ok() {
            self.changes += 1;
            self.push();
        }
        self.log(|| {
            format!(
                "device {device} uploads {} {:?} {result:?}",
                upload.path, upload.base
            )
        });
        if self.has_net_fault("upload: answer lost") {
            self.deliver(device, generation, Input::Uploaded(id, unavailable("timeout")));
            return;
        }
        self.deliver(device, generation, Input::Uploaded(id, result));
    }

    fn request(
        &mut self,
        device: usize,
        generation: u32,
        id: EffectId,
        request: Request,
        epoch: Option<Epoch>,
    ) {
        if self.has_net_fault("request: lost before") {
            self.deliver(device, generation, Input::Answered(id, unavailable("timeout")));
            return;
        }
        let result = match request {
            Request::Position => Ok(Answer::Position(self.server.role, self.server.position())),
            Request::List => {
                let epoch = self.server.current_epoch();
                self.after(1, 300, Event::Page(device, generation, id, None, epoch));
                return;
            }
            Request::Changes(after) => self.server.changes(epoch, after),
            Request::Move {
                file_id,
                to,
                base_version,
                base_path,
            } => {
                let Some(epoch) = epoch else { return };
                let result = self
                    .server
                    .move_file(epoch, file_id, &to, (base_version, &base_path));
                self.log(|| format!("device {device} moves {base_path} to {to}: {result:?}"));
                result.map(Answer::Committed)
            }
            Request::Delete {
                file_id,
                base_version,
                base_path,
            } => {
                let Some(epoch) = epoch else { return };
                let result = self.server.delete(epoch, file_id, (base_version, &base_path));
                self.log(|| format!("device {device} deletes {base_path}: {result:?}"));
                result.map(Answer::Committed)
            }
        };
        if matches!(result, Ok(Answer::Committed(_))) {
            self.changes += 1;
            self.push();
        }
        let result = if self.has_net_fault("request: answer lost") {
            unavailable("timeout")
        } else {
            result
        };
        self.deliver(device, generation, Input::Answered(id, result));
    }

    fn list_page(&mut self, device: usize, generation: u32, id: EffectId, after: Option<&str>, epoch: Epoch) {
        if self.has_net_fault("listing: lost half way") {
            self.deliver(device, generation, Input::Answered(id, unavailable("timeout")));
            return;
        }
        if epoch != self.server.current_epoch() {
            self.deliver(
                device,
                generation,
                Input::Answered(id, Err(RemoteError::OtherEpoch)),
            );
            return;
        }
        let (rows, next) = self.server.list(after);
        self.at(
            self.time + 1,
            Event::Deliver(device, generation, Input::Listed(id, rows)),
        );
        match next {
            Some(path) => self.after(1, 300, Event::Page(device, generation, id, Some(path), epoch)),
            None => self.after(
                2,
                100,
                Event::Deliver(device, generation, Input::Answered(id, Ok(Answer::Listed(epoch)))),
            ),
        }
    }

    /// The service goes back to a backup. What only the lost versions had is excused, unless a device has it.
    pub(super) fn restore(&mut self, backup: &Server) {
        let before = self.server.clone();
        self.server.restore_backup(backup);
        self.has_restored = true;
        let ledger = Arc::clone(&self.ledger);
        let mut ledger = lock(&ledger);
        for (_, bytes) in before.files().into_iter().chain(
            before
                .trash()
                .into_iter()
                .map(|(id, bytes)| (id.to_string(), bytes)),
        ) {
            let is_on_a_disk = self.devices.iter().any(|dev| {
                dev.disk
                    .device()
                    .state
                    .files()
                    .values()
                    .any(|content| *content == bytes)
            });
            if !is_on_a_disk && !self.server.has_content(&bytes) {
                ledger.deleted(&bytes);
            }
        }
    }
}
