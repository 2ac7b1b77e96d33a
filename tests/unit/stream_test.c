/* SPDX-License-Identifier: Apache-2.0 */
#include "support/stream_fixture.h"

int main(void)
{
    return stream_suite_run("streams", stream_tests, stream_test_count, NULL, 0);
}
