//! Reads the first page of recipients of each audience in a batch.

use db::{Audience, Page, PageSize};
use platform::error_chain;
use tokio::time::Instant;
use tracing::error;

use crate::{App, MEMBERS, PAGE};

const SIZE: PageSize = PageSize {
    connections: PAGE,
    members: MEMBERS,
};

/// Reads the first page of each audience; `None` for an audience that cannot be read. All pages are read in
/// one statement. If that statement fails, each audience is read alone, so that a bad audience does not fail
/// the others.
pub(crate) async fn pages(app: &App, audiences: &[Audience], deadline: Instant) -> Vec<Option<Page>> {
    let now = app.clock.now();
    let failure = match app.db.recipients(audiences, SIZE, now).await {
        Ok(pages) => return pages.into_iter().map(Some).collect(),
        Err(failure) => failure,
    };
    if !failure.is_of_the_statement() || audiences.len() == 1 {
        error!(
            error = error_chain(&failure),
            audiences = audiences.len(),
            "nobody was notified: the audience is unknown"
        );
        return vec![None; audiences.len()];
    }
    let mut pages = Vec::with_capacity(audiences.len());
    for audience in audiences {
        let space_id = audience.space_id;
        let page = if Instant::now() < deadline {
            app.db.recipients(std::slice::from_ref(audience), SIZE, now).await
        } else {
            Ok(Vec::new())
        };
        pages.push(page.map_or_else(
            |failure| {
                error!(%space_id, error = error_chain(&failure), "nobody in space {space_id} was notified: the audience is unknown");
                None
            },
            |mut page| page.pop(),
        ));
    }
    pages
}
