//! When periods of plans begin, and what the ids of their lots are: the domain's `plan.rs`, said in SQL.

/// The functions, in the order in which they are made.
pub const FUNCTIONS: &str = r"
-- The start of the period of that number, counted from the anchor by the calendar of the zone; null beyond the
-- calendar's end. The limits are those of the calendar that the ledger uses: no more than 19,998 years, and no instant
-- after the last one of the year 9999 that is that year in every zone.
CREATE OR REPLACE FUNCTION credit_period_start(anchor timestamptz, zone text, period text, number bigint)
RETURNS timestamptz
LANGUAGE plpgsql
STABLE
AS $function$
DECLARE
    last_local CONSTANT timestamp := '9999-12-31 23:59:59.999999';
    last_instant CONSTANT timestamptz := '9999-12-30 22:00:00.999999+00';
    -- PostgreSQL takes these names for abbreviations of a fixed offset. In the IANA database they are links.
    zone_name CONSTANT text := CASE upper(zone)
        WHEN 'CET' THEN 'Europe/Brussels'
        WHEN 'MET' THEN 'Europe/Brussels'
        WHEN 'EET' THEN 'Europe/Athens'
        WHEN 'WET' THEN 'Europe/Lisbon'
        ELSE zone
    END;
    number_max bigint;
    shown timestamp;
    instant timestamptz;
    day_before timestamptz;
    earlier timestamptz;
BEGIN
    IF number = 0 THEN
        -- The anchor itself, even where the clock shows its time twice.
        RETURN anchor;
    END IF;
    number_max := CASE period WHEN 'day' THEN 7304484 WHEN 'week' THEN 1043497 WHEN 'month' THEN 239976 ELSE 19998 END;
    IF number > number_max THEN
        RETURN NULL;
    END IF;
    shown := (anchor AT TIME ZONE zone_name) + CASE period
        WHEN 'day' THEN make_interval(days => number::integer)
        WHEN 'week' THEN make_interval(weeks => number::integer)
        WHEN 'month' THEN make_interval(months => number::integer)
        ELSE make_interval(years => number::integer)
    END;
    IF shown > last_local THEN
        RETURN NULL;
    END IF;
    -- A time that the clock leaves out is read with the offset from before the gap, here as in the ledger.
    instant := shown AT TIME ZONE zone_name;
    -- A time that the clock shows twice is the second of the two here, and the first one in the ledger: the one with the
    -- offset of the day before.
    day_before := instant - interval '24 hours';
    earlier := (shown - ((day_before AT TIME ZONE zone_name) - (day_before AT TIME ZONE 'UTC'))) AT TIME ZONE 'UTC';
    IF earlier < instant AND (earlier AT TIME ZONE zone_name) = shown THEN
        instant := earlier;
    END IF;
    RETURN CASE WHEN instant <= last_instant THEN instant END;
END
$function$;

-- The UUIDv7 (RFC 9562, section 5.7) of that millisecond. Its other bits are those of bytes 7 to 16 of `filling`.
CREATE OR REPLACE FUNCTION credit_uuid_v7(millis bigint, filling bytea) RETURNS uuid
LANGUAGE plpgsql
IMMUTABLE
AS $function$
DECLARE
    bytes bytea := substring(int8send(millis) FROM 3) || substring(filling FROM 7 FOR 10);
BEGIN
    bytes := set_byte(bytes, 6, (get_byte(bytes, 6) & 15) | 112);
    bytes := set_byte(bytes, 8, (get_byte(bytes, 8) & 63) | 128);
    RETURN encode(bytes, 'hex')::uuid;
END
$function$;

-- A new id, of this instant.
CREATE OR REPLACE FUNCTION credit_new_id() RETURNS uuid
LANGUAGE plpgsql
AS $function$
BEGIN
    RETURN credit_uuid_v7(floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint, uuid_send(gen_random_uuid()));
END
$function$;

-- The id of the lot of a period. It follows from the organization, the plan and the period alone: whoever settles, the
-- server or these functions, makes the same one. Each part of what is hashed stands after its length in bytes.
CREATE OR REPLACE FUNCTION credit_period_grant_id(organization uuid, plan text, starts timestamptz, ends timestamptz)
RETURNS uuid
LANGUAGE plpgsql
IMMUTABLE
AS $function$
DECLARE
    name CONSTANT bytea := convert_to(
        format('%s %s %s', plan, (extract(epoch FROM starts) * 1000000)::bigint, (extract(epoch FROM ends) * 1000000)::bigint),
        'UTF8'
    );
    holder CONSTANT bytea := convert_to(organization::text, 'UTF8');
BEGIN
    RETURN credit_uuid_v7(
        greatest(floor(extract(epoch FROM starts) * 1000), 0)::bigint,
        sha256(
            int8send(6) || 'period'::bytea || int8send(length(holder)::bigint) || holder
            || int8send(length(name)::bigint) || name
        )
    );
END
$function$;
";
