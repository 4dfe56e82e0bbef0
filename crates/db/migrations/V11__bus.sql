-- Events that the event bus may not have yet, if the stack has one. Not rows of the outbox, because the release that still serves sends all
-- of those to the queue, and then deletes them.
CREATE TABLE bus_outbox (
    event_id uuid PRIMARY KEY REFERENCES changes (event_id) ON DELETE CASCADE,
    created_at timestamptz NOT NULL,
    -- Until then a run of maintenance is sending it.
    leased_until timestamptz NOT NULL
);
CREATE INDEX bus_outbox_leased_until ON bus_outbox (leased_until);
CREATE INDEX bus_outbox_created_at ON bus_outbox (created_at);

-- The stack's parameters that the schema needs. It has one row.
CREATE TABLE settings (
    id boolean PRIMARY KEY DEFAULT true CHECK (id),
    -- Whether changes also go to an event bus. Migrate writes it, before any function of the deployment changes.
    has_bus boolean NOT NULL DEFAULT false
);
INSERT INTO settings DEFAULT VALUES;

-- By trigger, so that every change since the parameter was set is there, also those that the release that still serves makes. With the rights of
-- the owner, because the role of the functions gets its own only after this migration.
CREATE FUNCTION copy_for_bus() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$
BEGIN
    INSERT INTO public.bus_outbox (event_id, created_at, leased_until)
    SELECT e.event_id, e.created_at, e.created_at
    FROM new_events e
    WHERE (SELECT s.has_bus FROM public.settings s)
    -- An operator may put an event into the outbox again.
    ON CONFLICT DO NOTHING;
    RETURN NULL;
END
$$;
CREATE TRIGGER events_committed AFTER INSERT ON outbox
    REFERENCING NEW TABLE AS new_events FOR EACH STATEMENT EXECUTE FUNCTION copy_for_bus();
