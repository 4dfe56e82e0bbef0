//! Invitations to shared spaces. Accepting one makes the membership.
//!
//! All that changes an invitation holds the lock of its space, so an invitation cannot be accepted and
//! withdrawn at once. The invited person gets this lock too, by the invitation. `$user` and `$email` are the
//! person: an invitation names one of the two, and the address is the one that the person's token proves.

use model::{
    Caller, EmailAddress, InvitationId, InvitationView, MAX_MEMBERS, PageLimit, ReceivedInvitation, Role,
    SpaceId, SpaceName, UserId,
};
use time::OffsetDateTime;
use tokio_postgres::Row;
use uuid::Uuid;

use crate::changes::{
    Effect, NewChange, Rejection, UNLIMITED, command, epoch, lock, locked, no_file, outcome,
};
use crate::client::Database;
use crate::error::Error;
use crate::query::Query;
use crate::row::{get, parse, parse_opt};
use crate::spaces::LOCK_SPACE;

pub(crate) const QUERIES: &[&Query] = &[
    &LOCK_SPACE_TO_INVITE,
    &INVITE,
    &FIND_INVITATION,
    &LIST_INVITATIONS,
    &WITHDRAW_INVITATION,
    &LIST_RECEIVED_INVITATIONS,
    &LOCK_INVITED_SPACE,
    &ACCEPT_INVITATION,
    &FIND_ACCEPTED_SPACE,
    &DECLINE_INVITATION,
    &REMOVE_EXPIRED_INVITATIONS,
];

/// The person whom an invitation names.
#[derive(Clone, Copy, Debug)]
pub enum Invited<'a> {
    /// A user of the service.
    User(&'a UserId),
    /// Whoever proves to have this address, now or later.
    Email(&'a EmailAddress),
}

impl<'a> Invited<'a> {
    /// The user id and the address, one of which is `None`.
    fn parts(self) -> (Option<&'a str>, Option<&'a str>) {
        match self {
            Self::User(user_id) => (Some(user_id.as_str()), None),
            Self::Email(email) => (None, Some(email.as_str())),
        }
    }
}

/// An invitation to make, or to change the role of.
#[derive(Clone, Copy, Debug)]
pub struct NewInvitation<'a> {
    /// The id of the invitation, if there is none yet.
    pub id: InvitationId,
    /// The space. Personal spaces cannot be shared.
    pub space_id: SpaceId,
    /// The invited person.
    pub invited: Invited<'a>,
    /// The role that the person gets by accepting.
    pub role: Role,
    /// The time from which on the invitation cannot be accepted.
    pub expires_at: OffsetDateTime,
    /// The stack's maximums.
    pub limits: InvitationLimits,
}

/// The maximums of invitations, unless an operator has set others for the space or the user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvitationLimits {
    /// Pending invitations to a space.
    pub pending: i64,
    /// Pending invitations of a person, by user id or address, to any space.
    pub received: i64,
    /// Invitations that a user makes within a day.
    pub per_day: i64,
}

/// $1 space, $6 invited user or null, $7 invited address or null. Of requests that invite one person, one
/// runs after the other. Their spaces may differ, so nothing else keeps them from exceeding the person's
/// limit together.
const LOCK_SPACE_TO_INVITE: Query = lock!(
    "lock_space_to_invite",
    "JOIN active_members m ON m.space_id = s.id AND m.user_id = $2
    WHERE s.id = $1",
    then "pg_advisory_xact_lock(hashtextextended('invitations of ' || invited_person($7, $8), 0))"
);

/// $6 space, $7 id of the invitation, $8 user or null, $9 address or null, $10 role, $11 time of its expiry,
/// $12 maximum number of pending invitations to a space, $13 to a person, $14 of invitations that a user
/// makes within a day.
///
/// The change is recorded in the person's personal space, if the person has one and wants invitations of this
/// inviter. Otherwise the outcome is `unchanged`, although the row is written. An inviter whom the person
/// refuses does not become the inviter of somebody else's invitation, because that would hide it. A new role
/// for a pending invitation counts as made within the day.
const INVITE: Query = command!(
    concat!(
        "-- invite
WITH account AS (
    SELECT user_id, max_received_invitations
    FROM users
    WHERE user_id = $8 OR email = $9
    ORDER BY seen_at DESC
    LIMIT 1
), decided AS (
    SELECT s.id, p.id AS personal_space_id, i.id AS invitation_id, r.inviter_id IS NOT NULL AS refused,
        CASE
            WHEN s.kind = 'personal' THEN 'personal_space'
            WHEN m.role <> 'owner' THEN 'forbidden'
            WHEN $8 IS NOT NULL AND p.id IS NULL THEN 'unknown_user'
            WHEN EXISTS (
                SELECT FROM members o
                WHERE o.space_id = s.id AND o.user_id IN (SELECT user_id FROM users WHERE user_id = $8 OR email = $9)
            ) THEN 'already_member'
            WHEN i.role = $10 AND i.expires_at > $2 AND (i.inviter_id = $4 OR r.inviter_id IS NOT NULL) THEN 'unchanged'
            WHEN within(
                'invitationsPerDay',
                CASE WHEN u.invitations_since > $2 - interval '1 day' THEN u.invitations ELSE 0 END,
                1,
                coalesce(u.max_invitations_per_day, $14),
                ceil(extract(epoch FROM u.invitations_since + interval '1 day' - $2))::bigint
            ) AND CASE
                WHEN i.id IS NOT NULL THEN true
                ELSE within('pendingInvitations', s.pending_invitations, 1, coalesce(s.max_pending_invitations, $12), 0)
                    AND within('receivedInvitations', coalesce(w.pending, 0), 1, coalesce(a.max_received_invitations, $13), 0)
            END THEN 'allowed'
        END AS decision
    FROM spaces s
    JOIN active_members m ON m.space_id = s.id AND m.user_id = $4
    LEFT JOIN users u ON u.user_id = $4
    LEFT JOIN account a ON true
    LEFT JOIN spaces p ON p.owner_id = a.user_id
    LEFT JOIN refused_inviters r ON r.user_id = a.user_id AND r.inviter_id = $4
    LEFT JOIN invitations i ON i.space_id = s.id AND i.state = 'pending' AND (i.user_id = $8 OR i.email = $9)
    LEFT JOIN invited_people w ON w.person = invited_person($8, $9)
    WHERE s.id = $6 AND ",
        locked!("s.id"),
        "
), target AS (
    SELECT *, NULL::uuid AS earlier_event_id, NULL::uuid AS current_file_id, NULL::bigint AS current_version,
        CASE
            WHEN decision = 'allowed' AND (personal_space_id IS NULL OR refused) THEN 'unchanged'
            ELSE decision
        END AS outcome
    FROM decided
), renewed AS (
    UPDATE invitations i
    SET role = $10, inviter_id = CASE WHEN t.refused THEN i.inviter_id ELSE $4 END, created_at = $2, expires_at = $11
    FROM target t
    WHERE t.decision = 'allowed' AND i.id = t.invitation_id
), made_invitation AS (
    INSERT INTO invitations (id, space_id, user_id, email, role, inviter_id, state, created_at, expires_at)
    SELECT $7, id, $8, $9, $10, $4, 'pending', $2, $11
    FROM target
    WHERE decision = 'allowed' AND invitation_id IS NULL
), changed AS (
    SELECT personal_space_id AS space_id, 'SPACE_INVITED' AS event_type, ",
    no_file!(),
    ", id AS subject_space_id, $10 AS subject_role,
        NULL AS member_id, NULL AS space_name, 1 AS position
    FROM target
    WHERE outcome = 'allowed'
)"
    ),
    set "",
    rate "changes = CASE
            WHEN t.outcome <> 'allowed' THEN u.changes
            WHEN u.changes_since > $2 - interval '1 minute' THEN u.changes + 1
            ELSE 1
        END,
        changes_since = CASE
            WHEN t.outcome <> 'allowed' OR u.changes_since > $2 - interval '1 minute' THEN u.changes_since
            ELSE $2
        END,
        invitations = CASE WHEN u.invitations_since > $2 - interval '1 day' THEN u.invitations + 1 ELSE 1 END,
        invitations_since = CASE WHEN u.invitations_since > $2 - interval '1 day' THEN u.invitations_since ELSE $2 END",
    for "t.decision = 'allowed'"
);

/// $1 space, $2 user or null, $3 address or null.
const FIND_INVITATION: Query = Query::new(
    "-- find_invitation
SELECT i.id, i.space_id, i.user_id, i.email, i.role, i.inviter_id, u.name AS inviter_name, i.created_at, i.expires_at
FROM invitations i
LEFT JOIN users u ON u.user_id = i.inviter_id
WHERE i.space_id = $1 AND i.state = 'pending' AND (i.user_id = $2 OR i.email = $3)",
);

/// $1 space, $2 requesting user, $3 the last invitation of the page before or null, $4 maximum number of
/// invitations, $5 epoch or null, $6 now. If the user is a member, at least one row with the user's role.
const LIST_INVITATIONS: Query = Query::new(
    "-- list_invitations
SELECT m.role AS own_role, i.*
FROM active_members m
LEFT JOIN LATERAL (
    SELECT i.id, i.space_id, i.user_id, i.email, i.role, i.inviter_id, u.name AS inviter_name, i.created_at, i.expires_at
    FROM invitations i
    LEFT JOIN users u ON u.user_id = i.inviter_id
    WHERE i.space_id = m.space_id AND i.state = 'pending' AND i.expires_at > $6 AND m.role = 'owner'
        AND ($3::uuid IS NULL OR i.id > $3)
    ORDER BY i.id
    LIMIT $4
) i ON true
WHERE m.space_id = $1 AND m.user_id = $2 AND admit($2, $5)
ORDER BY i.id",
);

/// $1 space, $2 invitation, $3 user.
const WITHDRAW_INVITATION: Query = Query::new(concat!(
    "-- withdraw_invitation
WITH target AS (
    SELECT i.id, NULL::uuid AS current_file_id, NULL::bigint AS current_version,
        CASE
            WHEN m.role <> 'owner' THEN 'forbidden'
            WHEN i.state = 'pending' THEN 'allowed'
            WHEN i.state IN ('withdrawn', 'declined') THEN 'already'
            ELSE 'not_found'
        END AS outcome
    FROM active_members m
    LEFT JOIN invitations i ON i.space_id = m.space_id AND i.id = $2
    WHERE m.space_id = $1 AND m.user_id = $3 AND ",
    locked!("m.space_id"),
    "
), withdrawn AS (
    UPDATE invitations i
    SET state = 'withdrawn'
    FROM target t
    WHERE t.outcome = 'allowed' AND i.id = t.id
)
SELECT outcome, current_file_id, current_version
FROM target"
));

/// $1 user, $2 verified address or null, $3 the last invitation of the page before or null, $4 maximum number
/// of invitations, $5 epoch or null, $6 now.
const LIST_RECEIVED_INVITATIONS: Query = Query::new(
    "-- list_received_invitations
SELECT i.id, i.space_id, s.name AS space_name, i.role, i.inviter_id, u.name AS inviter_name, i.created_at, i.expires_at
FROM invitations i
JOIN spaces s ON s.id = i.space_id AND s.deleted_at IS NULL
LEFT JOIN users u ON u.user_id = i.inviter_id
WHERE (i.user_id = $1 OR i.email = $2) AND i.state = 'pending' AND i.expires_at > $6 AND ($3::uuid IS NULL OR i.id > $3)
    AND NOT EXISTS (SELECT FROM refused_inviters r WHERE r.user_id = $1 AND r.inviter_id = i.inviter_id)
    AND admit($1, $5)
ORDER BY i.id
LIMIT $4",
);

/// $1 invitation, $6 verified address or null.
const LOCK_INVITED_SPACE: Query = lock!(
    "lock_invited_space",
    "JOIN invitations i ON i.space_id = s.id
    WHERE i.id = $1 AND (i.user_id = $2 OR i.email = $7)"
);

/// $6 invitation, $7 verified address or null, $8 maximum number of members, $9 maximum number of shared
/// spaces of a user. Other invitations of the person to the same space are accepted with it.
const ACCEPT_INVITATION: Query = command!(concat!(
    "-- accept_invitation
WITH target AS (
    SELECT s.id, p.id AS personal_space_id, i.role, NULL::uuid AS earlier_event_id, NULL::uuid AS current_file_id,
        NULL::bigint AS current_version,
        CASE
            WHEN i.state NOT IN ('pending', 'accepted') THEN 'not_found'
            WHEN o.role IS NOT NULL THEN 'unchanged'
            WHEN i.state = 'accepted' OR i.expires_at <= $2 OR r.inviter_id IS NOT NULL THEN 'not_found'
            WHEN s.member_count >= $8 THEN 'too_many_members'
            WHEN within('spaces', p.memberships, 1, coalesce(u.max_spaces, $9), 0) THEN 'allowed'
        END AS outcome
    FROM invitations i
    JOIN spaces s ON s.id = i.space_id AND s.deleted_at IS NULL
    JOIN spaces p ON p.owner_id = $4
    JOIN users u ON u.user_id = p.owner_id
    LEFT JOIN members o ON o.space_id = s.id AND o.user_id = $4
    LEFT JOIN refused_inviters r ON r.user_id = $4 AND r.inviter_id = i.inviter_id
    WHERE i.id = $6 AND (i.user_id = $4 OR i.email = $7) AND ",
    locked!("s.id"),
    "
), accepted AS (
    UPDATE invitations i
    SET state = 'accepted'
    FROM target t
    WHERE t.outcome = 'allowed' AND i.space_id = t.id AND i.state = 'pending' AND (i.user_id = $4 OR i.email = $7)
), member AS (
    INSERT INTO members (space_id, user_id, role, added_at)
    SELECT id, $4, role, $2
    FROM target
    WHERE outcome = 'allowed'
), changed AS (
    SELECT personal_space_id AS space_id, 'SPACE_SHARED' AS event_type, ",
    no_file!(),
    ", id AS subject_space_id,
        role AS subject_role, NULL AS member_id, NULL AS space_name, 1 AS position
    FROM target
    WHERE outcome = 'allowed'
    UNION ALL
    SELECT id, 'MEMBER_CHANGED', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, role, $4, NULL, 2
    FROM target
    WHERE outcome = 'allowed'
)"
));

/// $1 invitation, $2 user. The space of an invitation that the user has accepted.
const FIND_ACCEPTED_SPACE: Query = Query::new(
    "-- find_accepted_space
SELECT i.space_id
FROM invitations i
JOIN active_members m ON m.space_id = i.space_id AND m.user_id = $2
WHERE i.id = $1",
);

/// $1 invitation, $2 user, $3 verified address or null, $4 whether to refuse the inviter, $5 now.
const DECLINE_INVITATION: Query = Query::new(concat!(
    "-- decline_invitation
WITH target AS (
    SELECT i.id, i.inviter_id, NULL::uuid AS current_file_id, NULL::bigint AS current_version,
        CASE i.state WHEN 'pending' THEN 'allowed' WHEN 'declined' THEN 'already' ELSE 'not_found' END AS outcome
    FROM invitations i
    WHERE i.id = $1 AND (i.user_id = $2 OR i.email = $3) AND ",
    locked!("i.space_id"),
    "
), declined AS (
    UPDATE invitations i
    SET state = 'declined'
    FROM target t
    WHERE t.outcome = 'allowed' AND i.id = t.id
), refused AS (
    INSERT INTO refused_inviters (user_id, inviter_id, refused_at)
    SELECT $2, inviter_id, $5
    FROM target
    WHERE $4 AND outcome <> 'not_found'
    ON CONFLICT DO NOTHING
)
SELECT outcome, current_file_id, current_version
FROM target"
));

/// $1 now, $2 maximum number of rows. Their spaces are locked first, as all do that change invitations; those
/// that are in use are left to the next run.
const REMOVE_EXPIRED_INVITATIONS: Query = Query::new(
    "-- remove_expired_invitations
DELETE FROM invitations
WHERE id IN (
    SELECT i.id
    FROM invitations i
    JOIN spaces s ON s.id = i.space_id
    WHERE i.expires_at <= $1
    ORDER BY i.expires_at
    LIMIT $2
    FOR NO KEY UPDATE OF s SKIP LOCKED
    FOR UPDATE OF i SKIP LOCKED
)
RETURNING id",
);

impl Database {
    /// Invites a person to a space, or gives a pending invitation another role. `new.commit.caller` is an
    /// owner. Inviting again with the same role changes nothing. The effect has no event if nobody is to hear
    /// of the invitation now.
    pub async fn invite(
        &self,
        invitation: NewInvitation<'_>,
        new: NewChange<'_>,
    ) -> Result<Result<(Effect, InvitationView), Rejection>, Error> {
        let space_id = Uuid::from(invitation.space_id);
        let (user_id, email) = invitation.invited.parts();
        let decision = self
            .command(
                &LOCK_SPACE_TO_INVITE,
                &[&space_id, &user_id, &email],
                &INVITE,
                new,
                &[
                    &space_id,
                    &Uuid::from(invitation.id),
                    &user_id,
                    &email,
                    &invitation.role.as_str(),
                    &invitation.expires_at,
                    &invitation.limits.pending,
                    &invitation.limits.received,
                    &invitation.limits.per_day,
                ],
            )
            .await?;
        let effect = match decision {
            Ok(effect) => effect,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let rows = self
            .rows(&FIND_INVITATION, &[&space_id, &user_id, &email])
            .await?;
        Ok(match rows.first() {
            Some(row) => Ok((effect, view(row)?)),
            // Another request has ended the invitation since.
            None => Err(Rejection::NotFound),
        })
    }

    /// The pending invitations to a space, oldest first, from after `after`. Returns `limit` + 1 invitations
    /// if there are more than `limit`. The caller must be an owner.
    pub async fn list_invitations(
        &self,
        space_id: SpaceId,
        caller: &Caller,
        after: Option<InvitationId>,
        limit: PageLimit,
        now: OffsetDateTime,
    ) -> Result<Result<Vec<InvitationView>, Rejection>, Error> {
        let rows = self
            .rows(
                &LIST_INVITATIONS,
                &[
                    &Uuid::from(space_id),
                    &caller.user_id.as_str(),
                    &after.map(Uuid::from),
                    &(limit.get() + 1),
                    &epoch(caller),
                    &now,
                ],
            )
            .await?;
        let Some(first) = rows.first() else {
            return Ok(Err(Rejection::NotFound));
        };
        if parse::<&str, Role>(first, "own_role")? != Role::Owner {
            return Ok(Err(Rejection::Forbidden));
        }
        let mut invitations = Vec::with_capacity(rows.len());
        for row in &rows {
            if get::<Option<Uuid>>(row, "id")?.is_some() {
                invitations.push(view(row)?);
            }
        }
        Ok(Ok(invitations))
    }

    /// Ends a pending invitation. The caller is an owner. Withdrawing again changes nothing.
    pub async fn withdraw_invitation(
        &self,
        space_id: SpaceId,
        id: InvitationId,
        caller: &Caller,
    ) -> Result<Result<(), Rejection>, Error> {
        let (space_id, user_id) = (Uuid::from(space_id), caller.user_id.as_str());
        let rows = self
            .query_in_space(
                caller,
                UNLIMITED,
                (&LOCK_SPACE, &[&space_id]),
                (&WITHDRAW_INVITATION, &[&space_id, &Uuid::from(id), &user_id]),
            )
            .await?;
        decided(&rows)
    }

    /// The caller's pending invitations, oldest first, from after `after`. Returns `limit` + 1 invitations if
    /// there are more than `limit`.
    pub async fn list_received_invitations(
        &self,
        caller: &Caller,
        after: Option<InvitationId>,
        limit: PageLimit,
        now: OffsetDateTime,
    ) -> Result<Vec<ReceivedInvitation>, Error> {
        let rows = self
            .rows(
                &LIST_RECEIVED_INVITATIONS,
                &[
                    &caller.user_id.as_str(),
                    &address(caller),
                    &after.map(Uuid::from),
                    &(limit.get() + 1),
                    &epoch(caller),
                    &now,
                ],
            )
            .await?;
        rows.iter().map(received).collect()
    }

    /// Makes the caller a member of the space of an invitation. Accepting again changes nothing, unless the
    /// membership has ended since: then there is no such invitation. `max_spaces` is the maximum number of
    /// shared spaces of a user, unless an operator has set another one for the user. Returns the space too.
    pub async fn accept_invitation(
        &self,
        id: InvitationId,
        new_space_id: SpaceId,
        max_spaces: i64,
        new: NewChange<'_>,
    ) -> Result<Result<(Effect, SpaceId), Rejection>, Error> {
        let (id, user_id) = (Uuid::from(id), new.commit.caller.user_id.as_str());
        let email = address(new.commit.caller);
        // Must come first: the command records the change in the personal space.
        self.create_personal_space(new_space_id, new.commit.caller, new.commit.now)
            .await?;
        let decision = self
            .command(
                &LOCK_INVITED_SPACE,
                &[&id, &email],
                &ACCEPT_INVITATION,
                new,
                &[&id, &email, &MAX_MEMBERS, &max_spaces],
            )
            .await?;
        let effect = match decision {
            Ok(effect) => effect,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let rows = self.rows(&FIND_ACCEPTED_SPACE, &[&id, &user_id]).await?;
        Ok(match rows.first() {
            Some(row) => Ok((effect, get::<Uuid>(row, "space_id")?.into())),
            // Another request has ended the membership since.
            None => Err(Rejection::NotFound),
        })
    }

    /// Ends an invitation to the caller. With `refuse`, the caller sees no more invitations of the same
    /// inviter. Declining again changes nothing.
    pub async fn decline_invitation(
        &self,
        id: InvitationId,
        caller: &Caller,
        refuse: bool,
        now: OffsetDateTime,
    ) -> Result<Result<(), Rejection>, Error> {
        let (id, user_id, email) = (Uuid::from(id), caller.user_id.as_str(), address(caller));
        let rows = self
            .query_in_space(
                caller,
                UNLIMITED,
                (&LOCK_INVITED_SPACE, &[&id, &email]),
                (&DECLINE_INVITATION, &[&id, &user_id, &email, &refuse, &now]),
            )
            .await?;
        decided(&rows)
    }

    /// Deletes up to `limit` invitations that have expired, and returns their number.
    pub async fn remove_expired_invitations(&self, now: OffsetDateTime, limit: i64) -> Result<usize, Error> {
        Ok(self
            .rows(&REMOVE_EXPIRED_INVITATIONS, &[&now, &limit])
            .await?
            .len())
    }
}

/// The address that the caller's token proves.
fn address(caller: &Caller) -> Option<&str> {
    caller.profile.email.as_ref().map(EmailAddress::as_str)
}

fn decided(rows: &[Row]) -> Result<Result<(), Rejection>, Error> {
    let Some(row) = rows.first() else {
        return Ok(Err(Rejection::NotFound));
    };
    Ok(outcome(row)?.map(|_| ()))
}

fn view(row: &Row) -> Result<InvitationView, Error> {
    Ok(InvitationView {
        invitation_id: get::<Uuid>(row, "id")?.into(),
        space_id: get::<Uuid>(row, "space_id")?.into(),
        user_id: parse_opt::<String, _>(row, "user_id")?,
        email: parse_opt::<String, _>(row, "email")?,
        role: parse::<&str, Role>(row, "role")?,
        inviter_id: parse::<String, UserId>(row, "inviter_id")?,
        inviter_name: parse_opt::<String, _>(row, "inviter_name")?,
        created_at: get(row, "created_at")?,
        expires_at: get(row, "expires_at")?,
    })
}

fn received(row: &Row) -> Result<ReceivedInvitation, Error> {
    Ok(ReceivedInvitation {
        invitation_id: get::<Uuid>(row, "id")?.into(),
        space_id: get::<Uuid>(row, "space_id")?.into(),
        space_name: parse::<String, SpaceName>(row, "space_name")?,
        role: parse::<&str, Role>(row, "role")?,
        inviter_id: parse::<String, UserId>(row, "inviter_id")?,
        inviter_name: parse_opt::<String, _>(row, "inviter_name")?,
        created_at: get(row, "created_at")?,
        expires_at: get(row, "expires_at")?,
    })
}
