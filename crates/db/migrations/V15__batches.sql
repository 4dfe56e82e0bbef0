-- The folders of a path: those of '/a/b/c' are '/a' and '/a/b'. The first segment is the empty text before the first slash.
CREATE FUNCTION folders_of(path text) RETURNS text[] LANGUAGE sql IMMUTABLE AS $$
    SELECT ARRAY(
        SELECT array_to_string(segments[1:last], '/')
        FROM string_to_array(path, '/') segments, generate_series(2, cardinality(segments) - 1) last
    )
$$;

-- The sum of the numbers that fit in a room, each after those before it. A number that does not fit is left out.
CREATE FUNCTION add_within(total bigint, number bigint, room bigint) RETURNS bigint LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN total + number <= room THEN total + number ELSE total END
$$;
CREATE AGGREGATE sum_within(number bigint, room bigint) (SFUNC = add_within, STYPE = bigint, INITCOND = '0');
