// OkHttp and Apache HttpClient 5. java RankWithLibraries MODE URL: reads "METHOD\tPATH\tBODY", writes "STATUS\tBODY" lines.
import java.io.BufferedReader;
import java.io.InputStreamReader;
import okhttp3.MediaType;
import okhttp3.OkHttpClient;
import okhttp3.Request;
import okhttp3.RequestBody;
import org.apache.hc.client5.http.classic.methods.HttpUriRequestBase;
import org.apache.hc.client5.http.impl.classic.CloseableHttpClient;
import org.apache.hc.client5.http.impl.classic.HttpClients;
import org.apache.hc.core5.http.ContentType;
import org.apache.hc.core5.http.io.entity.EntityUtils;
import org.apache.hc.core5.http.io.entity.StringEntity;
import java.net.URI;

public class RankWithLibraries {
    public static void main(String[] arguments) throws Exception {
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in, "UTF-8"));
        OkHttpClient okHttp = new OkHttpClient();
        try (CloseableHttpClient apache = HttpClients.createDefault()) {
            for (String line = lines.readLine(); line != null; line = lines.readLine()) {
                String[] asked = line.split("\t", -1);
                System.out.println(switch (arguments[0]) {
                    case "okhttp" -> sendByOkHttp(okHttp, arguments[1], asked);
                    case "apache" -> sendByApache(apache, arguments[1], asked);
                    default -> throw new IllegalArgumentException(arguments[0]);
                });
            }
        }
        System.exit(0);  // OkHttp's threads live for another minute
    }

    private static String sendByOkHttp(OkHttpClient client, String url, String[] asked) throws Exception {
        RequestBody body = asked[0].equals("POST") ? RequestBody.create(asked[2], MediaType.get("application/json")) : null;
        Request request = new Request.Builder().url(url + asked[1]).method(asked[0], body).build();
        try (var response = client.newCall(request).execute()) {
            return response.code() + "\t" + response.body().string();
        }
    }

    private static String sendByApache(CloseableHttpClient client, String url, String[] asked) throws Exception {
        HttpUriRequestBase request = new HttpUriRequestBase(asked[0], URI.create(url + asked[1]));
        if (asked[0].equals("POST")) {
            request.setEntity(new StringEntity(asked[2], ContentType.APPLICATION_JSON));
        }
        return client.execute(request, response -> {
            String body = response.getEntity() == null ? "" : EntityUtils.toString(response.getEntity());
            return response.getCode() + "\t" + body;
        });
    }
}
