-- Keeps the report's roll-ups as rows of `connections` close: an end is counted when its row is closed,
-- moves when its verdict or its type is revised, and is taken out when its row is deleted. An update of a
-- closed row fires the last two triggers: what it was is taken out, what it is put in. SQLite only.

CREATE TRIGGER connections_end_inserted AFTER INSERT ON connections WHEN NEW.status = 'closed'
BEGIN
  INSERT INTO end_kinds ("type", "cause", "reason", "initiator", "expected", "relay")
    VALUES (NEW."type", NEW."disconnect_cause", NEW."disconnect_reason", NEW."disconnect_initiator",
      NEW."disconnect_expected", coalesce(NEW."relay_region", ''))
    ON CONFLICT DO NOTHING;
  INSERT INTO end_places ("workspace_id", "workspace", "user")
    VALUES (coalesce(NEW."workspace_id", ''), coalesce(NEW."workspace", ''), coalesce(NEW."user", ''))
    ON CONFLICT DO NOTHING;
  INSERT INTO ends_by_hour (hour, kind_id, ends, lived_ms)
    SELECT (CAST(NEW.disconnected_at AS INTEGER) / 3600), kind_id, 1,
      CAST(round((NEW.disconnected_at - coalesce(NEW.connected_at, NEW.disconnected_at)) * 1000) AS INTEGER)
    FROM end_kinds WHERE "type" = NEW."type" AND "cause" = NEW."disconnect_cause"
      AND "reason" = NEW."disconnect_reason" AND "initiator" = NEW."disconnect_initiator"
      AND "expected" = NEW."disconnect_expected" AND "relay" = coalesce(NEW."relay_region", '')
    ON CONFLICT (hour, kind_id)
    DO UPDATE SET ends = ends + 1, lived_ms = lived_ms + excluded.lived_ms;
  INSERT INTO ends_by_day (day, kind_id, ends, lived_ms)
    SELECT (CAST(NEW.disconnected_at AS INTEGER) / 86400), kind_id, 1,
      CAST(round((NEW.disconnected_at - coalesce(NEW.connected_at, NEW.disconnected_at)) * 1000) AS INTEGER)
    FROM end_kinds WHERE "type" = NEW."type" AND "cause" = NEW."disconnect_cause"
      AND "reason" = NEW."disconnect_reason" AND "initiator" = NEW."disconnect_initiator"
      AND "expected" = NEW."disconnect_expected" AND "relay" = coalesce(NEW."relay_region", '')
    ON CONFLICT (day, kind_id)
    DO UPDATE SET ends = ends + 1, lived_ms = lived_ms + excluded.lived_ms;
  INSERT INTO ends_by_place_day (day, place_id, expected, unexplained, ends, lived_ms)
    SELECT (CAST(NEW.disconnected_at AS INTEGER) / 86400), place_id,
      NEW.disconnect_expected, NEW.disconnect_reason = 'unknown', 1,
      CAST(round((NEW.disconnected_at - coalesce(NEW.connected_at, NEW.disconnected_at)) * 1000) AS INTEGER)
    FROM end_places WHERE "workspace_id" = coalesce(NEW."workspace_id", '')
      AND "workspace" = coalesce(NEW."workspace", '') AND "user" = coalesce(NEW."user", '')
    ON CONFLICT (day, place_id, expected, unexplained)
    DO UPDATE SET ends = ends + 1, lived_ms = lived_ms + excluded.lived_ms;
  INSERT INTO ends_by_place_month (month, place_id, expected, unexplained, ends, lived_ms)
    SELECT (CAST(NEW.disconnected_at AS INTEGER) / 2592000), place_id,
      NEW.disconnect_expected, NEW.disconnect_reason = 'unknown', 1,
      CAST(round((NEW.disconnected_at - coalesce(NEW.connected_at, NEW.disconnected_at)) * 1000) AS INTEGER)
    FROM end_places WHERE "workspace_id" = coalesce(NEW."workspace_id", '')
      AND "workspace" = coalesce(NEW."workspace", '') AND "user" = coalesce(NEW."user", '')
    ON CONFLICT (month, place_id, expected, unexplained)
    DO UPDATE SET ends = ends + 1, lived_ms = lived_ms + excluded.lived_ms;
END;

CREATE TRIGGER connections_end_deleted AFTER DELETE ON connections WHEN OLD.status = 'closed'
BEGIN
  UPDATE ends_by_hour SET ends = ends - 1, lived_ms = lived_ms -
      CAST(round((OLD.disconnected_at - coalesce(OLD.connected_at, OLD.disconnected_at)) * 1000) AS INTEGER)
    WHERE (hour, kind_id) = (
      SELECT (CAST(OLD.disconnected_at AS INTEGER) / 3600), kind_id
      FROM end_kinds WHERE "type" = OLD."type" AND "cause" = OLD."disconnect_cause"
        AND "reason" = OLD."disconnect_reason" AND "initiator" = OLD."disconnect_initiator"
        AND "expected" = OLD."disconnect_expected" AND "relay" = coalesce(OLD."relay_region", ''));
  DELETE FROM ends_by_hour
    WHERE (hour, kind_id) = (
      SELECT (CAST(OLD.disconnected_at AS INTEGER) / 3600), kind_id
      FROM end_kinds WHERE "type" = OLD."type" AND "cause" = OLD."disconnect_cause"
        AND "reason" = OLD."disconnect_reason" AND "initiator" = OLD."disconnect_initiator"
        AND "expected" = OLD."disconnect_expected" AND "relay" = coalesce(OLD."relay_region", ''))
    AND ends = 0;
  UPDATE ends_by_day SET ends = ends - 1, lived_ms = lived_ms -
      CAST(round((OLD.disconnected_at - coalesce(OLD.connected_at, OLD.disconnected_at)) * 1000) AS INTEGER)
    WHERE (day, kind_id) = (
      SELECT (CAST(OLD.disconnected_at AS INTEGER) / 86400), kind_id
      FROM end_kinds WHERE "type" = OLD."type" AND "cause" = OLD."disconnect_cause"
        AND "reason" = OLD."disconnect_reason" AND "initiator" = OLD."disconnect_initiator"
        AND "expected" = OLD."disconnect_expected" AND "relay" = coalesce(OLD."relay_region", ''));
  DELETE FROM ends_by_day
    WHERE (day, kind_id) = (
      SELECT (CAST(OLD.disconnected_at AS INTEGER) / 86400), kind_id
      FROM end_kinds WHERE "type" = OLD."type" AND "cause" = OLD."disconnect_cause"
        AND "reason" = OLD."disconnect_reason" AND "initiator" = OLD."disconnect_initiator"
        AND "expected" = OLD."disconnect_expected" AND "relay" = coalesce(OLD."relay_region", ''))
    AND ends = 0;
  UPDATE ends_by_place_day SET ends = ends - 1, lived_ms = lived_ms -
      CAST(round((OLD.disconnected_at - coalesce(OLD.connected_at, OLD.disconnected_at)) * 1000) AS INTEGER)
    WHERE (day, place_id, expected, unexplained) = (
      SELECT (CAST(OLD.disconnected_at AS INTEGER) / 86400), place_id,
        OLD.disconnect_expected, OLD.disconnect_reason = 'unknown'
      FROM end_places WHERE "workspace_id" = coalesce(OLD."workspace_id", '')
        AND "workspace" = coalesce(OLD."workspace", '') AND "user" = coalesce(OLD."user", ''));
  DELETE FROM ends_by_place_day
    WHERE (day, place_id, expected, unexplained) = (
      SELECT (CAST(OLD.disconnected_at AS INTEGER) / 86400), place_id,
        OLD.disconnect_expected, OLD.disconnect_reason = 'unknown'
      FROM end_places WHERE "workspace_id" = coalesce(OLD."workspace_id", '')
        AND "workspace" = coalesce(OLD."workspace", '') AND "user" = coalesce(OLD."user", ''))
    AND ends = 0;
  UPDATE ends_by_place_month SET ends = ends - 1, lived_ms = lived_ms -
      CAST(round((OLD.disconnected_at - coalesce(OLD.connected_at, OLD.disconnected_at)) * 1000) AS INTEGER)
    WHERE (month, place_id, expected, unexplained) = (
      SELECT (CAST(OLD.disconnected_at AS INTEGER) / 2592000), place_id,
        OLD.disconnect_expected, OLD.disconnect_reason = 'unknown'
      FROM end_places WHERE "workspace_id" = coalesce(OLD."workspace_id", '')
        AND "workspace" = coalesce(OLD."workspace", '') AND "user" = coalesce(OLD."user", ''));
  DELETE FROM ends_by_place_month
    WHERE (month, place_id, expected, unexplained) = (
      SELECT (CAST(OLD.disconnected_at AS INTEGER) / 2592000), place_id,
        OLD.disconnect_expected, OLD.disconnect_reason = 'unknown'
      FROM end_places WHERE "workspace_id" = coalesce(OLD."workspace_id", '')
        AND "workspace" = coalesce(OLD."workspace", '') AND "user" = coalesce(OLD."user", ''))
    AND ends = 0;
END;

CREATE TRIGGER connections_end_left AFTER UPDATE OF "status", "type", "disconnect_cause",
  "disconnect_reason", "disconnect_initiator", "disconnect_expected", "relay_region", "workspace_id",
  "workspace", "user", "connected_at", "disconnected_at" ON connections
  WHEN OLD.status = 'closed'
BEGIN
  UPDATE ends_by_hour SET ends = ends - 1, lived_ms = lived_ms -
      CAST(round((OLD.disconnected_at - coalesce(OLD.connected_at, OLD.disconnected_at)) * 1000) AS INTEGER)
    WHERE (hour, kind_id) = (
      SELECT (CAST(OLD.disconnected_at AS INTEGER) / 3600), kind_id
      FROM end_kinds WHERE "type" = OLD."type" AND "cause" = OLD."disconnect_cause"
        AND "reason" = OLD."disconnect_reason" AND "initiator" = OLD."disconnect_initiator"
        AND "expected" = OLD."disconnect_expected" AND "relay" = coalesce(OLD."relay_region", ''));
  DELETE FROM ends_by_hour
    WHERE (hour, kind_id) = (
      SELECT (CAST(OLD.disconnected_at AS INTEGER) / 3600), kind_id
      FROM end_kinds WHERE "type" = OLD."type" AND "cause" = OLD."disconnect_cause"
        AND "reason" = OLD."disconnect_reason" AND "initiator" = OLD."disconnect_initiator"
        AND "expected" = OLD."disconnect_expected" AND "relay" = coalesce(OLD."relay_region", ''))
    AND ends = 0;
  UPDATE ends_by_day SET ends = ends - 1, lived_ms = lived_ms -
      CAST(round((OLD.disconnected_at - coalesce(OLD.connected_at, OLD.disconnected_at)) * 1000) AS INTEGER)
    WHERE (day, kind_id) = (
      SELECT (CAST(OLD.disconnected_at AS INTEGER) / 86400), kind_id
      FROM end_kinds WHERE "type" = OLD."type" AND "cause" = OLD."disconnect_cause"
        AND "reason" = OLD."disconnect_reason" AND "initiator" = OLD."disconnect_initiator"
        AND "expected" = OLD."disconnect_expected" AND "relay" = coalesce(OLD."relay_region", ''));
  DELETE FROM ends_by_day
    WHERE (day, kind_id) = (
      SELECT (CAST(OLD.disconnected_at AS INTEGER) / 86400), kind_id
      FROM end_kinds WHERE "type" = OLD."type" AND "cause" = OLD."disconnect_cause"
        AND "reason" = OLD."disconnect_reason" AND "initiator" = OLD."disconnect_initiator"
        AND "expected" = OLD."disconnect_expected" AND "relay" = coalesce(OLD."relay_region", ''))
    AND ends = 0;
  UPDATE ends_by_place_day SET ends = ends - 1, lived_ms = lived_ms -
      CAST(round((OLD.disconnected_at - coalesce(OLD.connected_at, OLD.disconnected_at)) * 1000) AS INTEGER)
    WHERE (day, place_id, expected, unexplained) = (
      SELECT (CAST(OLD.disconnected_at AS INTEGER) / 86400), place_id,
        OLD.disconnect_expected, OLD.disconnect_reason = 'unknown'
      FROM end_places WHERE "workspace_id" = coalesce(OLD."workspace_id", '')
        AND "workspace" = coalesce(OLD."workspace", '') AND "user" = coalesce(OLD."user", ''));
  DELETE FROM ends_by_place_day
    WHERE (day, place_id, expected, unexplained) = (
      SELECT (CAST(OLD.disconnected_at AS INTEGER) / 86400), place_id,
        OLD.disconnect_expected, OLD.disconnect_reason = 'unknown'
      FROM end_places WHERE "workspace_id" = coalesce(OLD."workspace_id", '')
        AND "workspace" = coalesce(OLD."workspace", '') AND "user" = coalesce(OLD."user", ''))
    AND ends = 0;
  UPDATE ends_by_place_month SET ends = ends - 1, lived_ms = lived_ms -
      CAST(round((OLD.disconnected_at - coalesce(OLD.connected_at, OLD.disconnected_at)) * 1000) AS INTEGER)
    WHERE (month, place_id, expected, unexplained) = (
      SELECT (CAST(OLD.disconnected_at AS INTEGER) / 2592000), place_id,
        OLD.disconnect_expected, OLD.disconnect_reason = 'unknown'
      FROM end_places WHERE "workspace_id" = coalesce(OLD."workspace_id", '')
        AND "workspace" = coalesce(OLD."workspace", '') AND "user" = coalesce(OLD."user", ''));
  DELETE FROM ends_by_place_month
    WHERE (month, place_id, expected, unexplained) = (
      SELECT (CAST(OLD.disconnected_at AS INTEGER) / 2592000), place_id,
        OLD.disconnect_expected, OLD.disconnect_reason = 'unknown'
      FROM end_places WHERE "workspace_id" = coalesce(OLD."workspace_id", '')
        AND "workspace" = coalesce(OLD."workspace", '') AND "user" = coalesce(OLD."user", ''))
    AND ends = 0;
END;

CREATE TRIGGER connections_end_came AFTER UPDATE OF "status", "type", "disconnect_cause",
  "disconnect_reason", "disconnect_initiator", "disconnect_expected", "relay_region", "workspace_id",
  "workspace", "user", "connected_at", "disconnected_at" ON connections
  WHEN NEW.status = 'closed'
BEGIN
  INSERT INTO end_kinds ("type", "cause", "reason", "initiator", "expected", "relay")
    VALUES (NEW."type", NEW."disconnect_cause", NEW."disconnect_reason", NEW."disconnect_initiator",
      NEW."disconnect_expected", coalesce(NEW."relay_region", ''))
    ON CONFLICT DO NOTHING;
  INSERT INTO end_places ("workspace_id", "workspace", "user")
    VALUES (coalesce(NEW."workspace_id", ''), coalesce(NEW."workspace", ''), coalesce(NEW."user", ''))
    ON CONFLICT DO NOTHING;
  INSERT INTO ends_by_hour (hour, kind_id, ends, lived_ms)
    SELECT (CAST(NEW.disconnected_at AS INTEGER) / 3600), kind_id, 1,
      CAST(round((NEW.disconnected_at - coalesce(NEW.connected_at, NEW.disconnected_at)) * 1000) AS INTEGER)
    FROM end_kinds WHERE "type" = NEW."type" AND "cause" = NEW."disconnect_cause"
      AND "reason" = NEW."disconnect_reason" AND "initiator" = NEW."disconnect_initiator"
      AND "expected" = NEW."disconnect_expected" AND "relay" = coalesce(NEW."relay_region", '')
    ON CONFLICT (hour, kind_id)
    DO UPDATE SET ends = ends + 1, lived_ms = lived_ms + excluded.lived_ms;
  INSERT INTO ends_by_day (day, kind_id, ends, lived_ms)
    SELECT (CAST(NEW.disconnected_at AS INTEGER) / 86400), kind_id, 1,
      CAST(round((NEW.disconnected_at - coalesce(NEW.connected_at, NEW.disconnected_at)) * 1000) AS INTEGER)
    FROM end_kinds WHERE "type" = NEW."type" AND "cause" = NEW."disconnect_cause"
      AND "reason" = NEW."disconnect_reason" AND "initiator" = NEW."disconnect_initiator"
      AND "expected" = NEW."disconnect_expected" AND "relay" = coalesce(NEW."relay_region", '')
    ON CONFLICT (day, kind_id)
    DO UPDATE SET ends = ends + 1, lived_ms = lived_ms + excluded.lived_ms;
  INSERT INTO ends_by_place_day (day, place_id, expected, unexplained, ends, lived_ms)
    SELECT (CAST(NEW.disconnected_at AS INTEGER) / 86400), place_id,
      NEW.disconnect_expected, NEW.disconnect_reason = 'unknown', 1,
      CAST(round((NEW.disconnected_at - coalesce(NEW.connected_at, NEW.disconnected_at)) * 1000) AS INTEGER)
    FROM end_places WHERE "workspace_id" = coalesce(NEW."workspace_id", '')
      AND "workspace" = coalesce(NEW."workspace", '') AND "user" = coalesce(NEW."user", '')
    ON CONFLICT (day, place_id, expected, unexplained)
    DO UPDATE SET ends = ends + 1, lived_ms = lived_ms + excluded.lived_ms;
  INSERT INTO ends_by_place_month (month, place_id, expected, unexplained, ends, lived_ms)
    SELECT (CAST(NEW.disconnected_at AS INTEGER) / 2592000), place_id,
      NEW.disconnect_expected, NEW.disconnect_reason = 'unknown', 1,
      CAST(round((NEW.disconnected_at - coalesce(NEW.connected_at, NEW.disconnected_at)) * 1000) AS INTEGER)
    FROM end_places WHERE "workspace_id" = coalesce(NEW."workspace_id", '')
      AND "workspace" = coalesce(NEW."workspace", '') AND "user" = coalesce(NEW."user", '')
    ON CONFLICT (month, place_id, expected, unexplained)
    DO UPDATE SET ends = ends + 1, lived_ms = lived_ms + excluded.lived_ms;
END;
