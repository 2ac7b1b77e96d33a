/* SPDX-License-Identifier: Apache-2.0 */

/* Stands in for libFuzzer: hands each file of the folders named once to the fuzzer's entry point.
 */

#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define INPUT_BYTES_MAX (1024 * 1024)

static void replay(const char *path)
{
    FILE *file = fopen(path, "rb");
    if (!file) {
        perror(path);
        exit(1);
    }
    uint8_t *data = malloc(INPUT_BYTES_MAX);
    if (!data)
        exit(1);
    size_t size = fread(data, 1, INPUT_BYTES_MAX, file);
    fclose(file);
    /* An exact allocation, so that AddressSanitizer sees a read past the input's end. */
    uint8_t *exact = realloc(data, size ? size : 1);
    if (!exact)
        exit(1);
    LLVMFuzzerTestOneInput(exact, size);
    free(exact);
}

static unsigned replay_folder(const char *folder)
{
    DIR *directory = opendir(folder);
    if (!directory)
        return 0;
    unsigned count = 0;
    for (struct dirent *entry; (entry = readdir(directory));) {
        char path[4096];
        struct stat status;
        snprintf(path, sizeof(path), "%s/%s", folder, entry->d_name);
        if (stat(path, &status) == 0 && S_ISREG(status.st_mode)) {
            replay(path);
            count++;
        }
    }
    closedir(directory);
    return count;
}

int main(int argc, char **argv)
{
    unsigned count = 0;
    for (int i = 1; i < argc; i++)
        count += replay_folder(argv[i]);
    /* The empty input is part of every corpus. */
    LLVMFuzzerTestOneInput((const uint8_t *)"", 0);
    printf("PASS: replayed %u inputs\n", count + 1);
    return 0;
}
