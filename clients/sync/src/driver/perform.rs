//! Performing effects.

use std::sync::Arc;

use tokio::sync::oneshot;
use tokio::task::spawn_blocking;

use super::{Driver, Notice, view};
use crate::disk::{Disk as _, DiskError, RootIdentity};
use crate::effect::{Effect, EffectId, Input, RemoteError, Request};
use crate::execute::{self, Job, Report};
use crate::store::{Store as _, StoreError};

impl Driver<'_> {
    pub(super) fn perform(&mut self, effect: Effect) -> Result<(), StoreError> {
        match effect {
            Effect::Commit(_) if self.is_dry => {}
            Effect::Commit(changes) => {
                self.store.commit(&changes)?;
                self.view.committed(&changes);
            }
            Effect::Disk(id, job) if self.is_dry && !job.is_read_only() => self.pretend(id, job),
            Effect::Disk(id, job) => {
                let disk = Arc::clone(&self.disk);
                let running = spawn_blocking(move || execute::run(&*disk, &job));
                self.tasks.push(Box::pin(async move {
                    Input::Disk(
                        id,
                        running.await.unwrap_or_else(|error| Err(thread_ended(&error))),
                    )
                }));
            }
            Effect::Fetch(id, fetch) => {
                self.view.started(id, view::Transfer::Download);
                let remote = self.remote.with_epoch(self.epoch);
                self.start(id, Input::Fetched, async move { remote.fetch(&fetch).await });
            }
            Effect::Upload(id, upload) => {
                self.view.started(id, view::Transfer::Upload);
                let remote = self.remote.with_epoch(self.epoch);
                self.start(id, Input::Uploaded, async move { remote.upload(&upload).await });
            }
            Effect::Request(id, request) => self.request(id, request),
            Effect::Cancel(id) => {
                if let Some(cancel) = self.cancels.remove(&id) {
                    let _ = cancel.send(());
                }
            }
            Effect::Wake(at) => self.wake = Some(at),
            Effect::Watch(folder) => {
                if let Some(watcher) = &mut self.folder_watcher {
                    let was_incomplete = watcher.is_incomplete();
                    watcher.watch(&folder);
                    if watcher.is_incomplete() && !was_incomplete {
                        (self.tell)(Notice::Unwatched);
                    }
                }
            }
            Effect::Tell(told) => self.told(told),
            // `step` has taken it.
            Effect::Stopped(_) => {}
        }
        Ok(())
    }

    /// Answers a job of a dry run that would change something.
    fn pretend(&mut self, id: EffectId, job: Job) {
        let report = match job {
            Job::Open(_) => {
                let root = self.disk.root().ok().flatten().or_else(|| {
                    let (marker, host) = (String::new(), String::new());
                    Some(RootIdentity {
                        marker,
                        device: 0,
                        inode: 0,
                        host,
                    })
                });
                let volume = self.disk.probe();
                volume.map(|volume| Report::Open {
                    volume: Box::new(volume),
                    root,
                    boot: self.disk.boot(),
                })
            }
            Job::Recover { .. } => Ok(Report::Recovered(Vec::new())),
            Job::Rescue(items) => {
                let changed = || Err(execute::Failure::Changed(None));
                Ok(Report::Rescued(items.iter().map(|_| changed()).collect()))
            }
            Job::Purge(names) => {
                let changed = || Err(execute::Failure::Changed(None));
                Ok(Report::Purged(names.iter().map(|_| changed()).collect()))
            }
            // Nothing else is started while the engine is paused.
            _ => Ok(Report::Discarded),
        };
        let _ = self.sender.send(Input::Disk(id, report));
    }

    /// Starts a call, whose result is passed also if it is cancelled.
    fn start<T: 'static>(
        &mut self,
        id: EffectId,
        input: fn(EffectId, Result<T, RemoteError>) -> Input,
        call: impl Future<Output = Result<T, RemoteError>> + 'static,
    ) {
        let (cancel, cancelled) = oneshot::channel();
        self.cancels.insert(id, cancel);
        self.tasks.push(Box::pin(async move {
            let result = tokio::select! {
                result = call => result,
                Ok(()) = cancelled => Err(RemoteError::Cancelled),
            };
            input(id, result)
        }));
    }

    fn request(&mut self, id: EffectId, request: Request) {
        let remote = self.remote.with_epoch(self.epoch);
        let pages = self.sender.clone();
        self.start(id, Input::Answered, async move {
            let page = |files| {
                let _ = pages.send(Input::Listed(id, files));
            };
            remote.request(&request, page).await
        });
    }
}

fn thread_ended(error: &tokio::task::JoinError) -> DiskError {
    DiskError::new(
        crate::disk::DiskErrorKind::Fatal,
        format!("a thread has ended: {error}"),
    )
}
