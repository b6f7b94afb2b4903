// Serves Google Cloud Storage from memory: fake-gcs-server, and the one request of the XML API that
// it lacks, a plain PUT of an object. That one becomes an upload of its JSON API with the same
// condition, so that fake-gcs-server itself decides who created an object.
package main

import (
	"encoding/json"
	"log"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"

	"github.com/fsouza/fake-gcs-server/fakestorage"
)

const bucket = "headwater"

// What a put's answer says of the stored object.
type stored struct {
	Generation string `json:"generation"`
	Etag       string `json:"etag"`
}

// put stores the object named by a path BUCKET/NAME.
func put(next http.Handler, w http.ResponseWriter, r *http.Request) {
	of, name, found := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	if !found || name == "" {
		http.Error(w, "no object's name", http.StatusBadRequest)
		return
	}
	query := url.Values{"uploadType": {"media"}, "name": {name}}
	if generation := r.Header.Get("x-goog-if-generation-match"); generation != "" {
		query.Set("ifGenerationMatch", generation)
	}
	target := "/upload/storage/v1/b/" + url.PathEscape(of) + "/o?" + query.Encode()
	upload, err := http.NewRequestWithContext(r.Context(), http.MethodPost, target, r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	upload.Host = r.Host
	upload.Header.Set("content-type", r.Header.Get("content-type"))
	answer := httptest.NewRecorder()
	next.ServeHTTP(answer, upload)
	if answer.Code != http.StatusOK {
		http.Error(w, answer.Body.String(), answer.Code)
		return
	}
	var object stored
	if err := json.Unmarshal(answer.Body.Bytes(), &object); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("etag", `"`+object.Etag+`"`)
	w.Header().Set("x-goog-generation", object.Generation)
	w.WriteHeader(http.StatusOK)
}

func main() {
	if len(os.Args) != 2 || !strings.HasPrefix(os.Args[1], "127.0.0.1:") {
		log.Fatal("usage: gcs 127.0.0.1:PORT")
	}
	address := os.Args[1]
	server, err := fakestorage.NewServerWithOptions(fakestorage.Options{
		NoListener: true,
		PublicHost: address,
	})
	if err != nil {
		log.Fatal(err)
	}
	server.CreateBucketWithOpts(fakestorage.CreateBucketOpts{Name: bucket})
	next := server.HTTPHandler()
	log.Fatal(http.ListenAndServe(address, http.HandlerFunc(
		func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPut {
				put(next, w, r)
			} else {
				next.ServeHTTP(w, r)
			}
		})))
}
