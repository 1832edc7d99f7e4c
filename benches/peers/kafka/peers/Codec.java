package peers;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonToken;
import java.io.IOException;
import java.lang.invoke.MethodHandles;
import java.lang.invoke.VarHandle;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;

/**
 * Events and results as bytes: JSON, or numbers of eight bytes, little end first. JSON is read
 * token by token, which is the fastest that the library has: faster than binding to a class.
 */
final class Codec {
    private static final VarHandle LITTLE =
            MethodHandles.byteArrayViewVarHandle(long[].class, ByteOrder.LITTLE_ENDIAN);
    private static final VarHandle BIG =
            MethodHandles.byteArrayViewVarHandle(long[].class, ByteOrder.BIG_ENDIAN);

    private final JsonFactory json;

    /** What was decoded last; `time` in ms. */
    long key;
    long value;
    long time;

    Codec(String format) {
        json = switch (format) {
            case "json" -> new JsonFactory();
            case "binary" -> null;
            default -> throw new IllegalArgumentException("no such format: " + format);
        };
    }

    void decode(byte[] bytes) throws IOException {
        if (json == null) {
            if (bytes.length != 24) {
                throw new IOException("an event of " + bytes.length + " bytes");
            }
            key = (long) LITTLE.get(bytes, 0);
            value = (long) LITTLE.get(bytes, 8);
            time = (long) LITTLE.get(bytes, 16);
            return;
        }
        try (JsonParser parser = json.createParser(bytes)) {
            if (parser.nextToken() != JsonToken.START_OBJECT) {
                throw new IOException("an event is an object");
            }
            for (String name = parser.nextFieldName(); name != null;
                    name = parser.nextFieldName()) {
                parser.nextToken();
                switch (name) {
                    case "key" -> key = parser.getLongValue();
                    case "value" -> value = parser.getLongValue();
                    case "time" -> time = parser.getLongValue();
                    default -> parser.skipChildren();
                }
            }
        }
    }

    byte[] encode(long key, long start, long count, long sum) {
        if (json == null) {
            byte[] bytes = new byte[32];
            LITTLE.set(bytes, 0, key);
            LITTLE.set(bytes, 8, start);
            LITTLE.set(bytes, 16, count);
            LITTLE.set(bytes, 24, sum);
            return bytes;
        }
        StringBuilder text = new StringBuilder(80);
        text.append("{\"key\":").append(key).append(",\"start\":").append(start)
                .append(",\"count\":").append(count).append(",\"sum\":").append(sum).append('}');
        return text.toString().getBytes(StandardCharsets.ISO_8859_1);
    }

    /** The key of a record. */
    static byte[] key(long key) {
        byte[] bytes = new byte[8];
        BIG.set(bytes, 0, key);
        return bytes;
    }

    static long key(byte[] bytes) {
        return (long) BIG.get(bytes, 0);
    }
}
